"""Prompts: problems rendered by a template and tokenized."""

import unicodedata
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from winnow.data.order import Order, Successes
from winnow.data.problems import MadeOnDemand, Problem
from winnow.errors import ConfigError
from winnow.models.conversation import Message
from winnow.models.language_model import LanguageModel
from winnow.models.special_tokens import EncodedText
from winnow.models.templates import Template, encode_prompt
from winnow.types import Prompt, Rollouts


def render(problem: Problem, tokenizer: PreTrainedTokenizerBase, template: Template) -> Prompt:
    """The prompt of a problem.

    Raises:
        ConfigError: the prompt is empty, the tokenizer cannot represent it, or the template has no place for its turns.
    """
    try:
        prompt = encode_prompt(problem.conversation, template, tokenizer)
    except ConfigError as error:
        raise ConfigError(f"prompt of {problem.key}: {error}") if problem.turns else error from error
    if not prompt.token_ids or not is_represented(prompt, tokenizer):
        raise ConfigError(
            f"prompt of {problem.key}: the model's tokenizer cannot represent {prompt.text[:60]!r}; "
            "choose another model or dataset"
        )
    return Prompt(
        problem.key,
        prompt.token_ids,
        prompt.text,
        problem.answer,
        problem.columns,
        problem.text,
        tuple((turn.role, turn.content) for turn in problem.turns),
    )


def is_represented(encoded: EncodedText, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether tokenizing lost no character: some tokenizers drop unknown characters, others write an unknown token.

    Only lengths without spaces are compared, because a tokenizer may normalize what it keeps.
    """
    back = str(tokenizer.decode(list(encoded.token_ids), skip_special_tokens=False))
    return encoded.is_faithful and len(_letters(back)) >= len(_letters(encoded.text))


def longer_than(
    limit: int, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, template: Template
) -> list[bool]:
    """Whether each problem's prompt has more than `limit` tokens.

    Most problems need no tokenizing: a token stands for at least one byte, and a template adds the same bytes to all
    problems that are only a text.
    """
    frame = len(template.render([Message("user", "x")], tokenizer).encode())

    def is_long(problem: Problem) -> bool:
        if not problem.turns and frame + len(problem.text.encode()) <= limit:
            return False
        return len(encode_prompt(problem.conversation, template, tokenizer).token_ids) > limit

    return [is_long(problem) for problem in problems]


def longest_prompt(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, template: Template) -> int:
    """The number of tokens of the longest prompt, found by tokenizing only those that may be it."""
    frame, longest = len(template.render([Message("user", "x")], tokenizer).encode()), 0
    for problem in sorted(problems, key=prompt_bytes, reverse=True):
        if problem.turns or frame + prompt_bytes(problem) > longest:
            longest = max(longest, len(encode_prompt(problem.conversation, template, tokenizer).token_ids))
    return longest


def prompt_bytes(problem: Problem) -> int:
    """Bytes of the problem's messages, without its template's: no fewer than their tokens."""
    return sum(len(message.content.encode()) for message in problem.conversation)


def most_prompt_bytes(problems: Sequence[Problem]) -> int:
    """Bytes that no problem's messages exceed together; problems that are made on demand are not made for it."""
    return problems.most_bytes if isinstance(problems, MadeOnDemand) else max(map(prompt_bytes, problems), default=0)


def _letters(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


class PromptOrder:
    """The problems of each iteration, in their order, and their prompts."""

    def __init__(self, order: Order, language_model: LanguageModel, template: Template) -> None:
        self.order, self.language_model, self.template = order, language_model, template

    def problems_of(self, iteration: int, count: int) -> list[Problem]:
        """The `count` problems of an iteration (from 0), of which all earlier ones had as many."""
        return self.order.take(iteration, count * iteration, count)

    def prompts_of(self, iteration: int, count: int, first: int = 0, end: int | None = None) -> list[Prompt]:
        """The prompts `first` … `end` − 1 of the `count` that an iteration has."""
        problems = self.problems_of(iteration, count)[first:end]
        return [render(problem, self.language_model.tokenizer, self.template) for problem in problems]

    def learn(self, iteration: int, rollouts: Rollouts) -> None:
        """Tell the order how many responses to each prompt of an iteration were correct."""
        successes: dict[str, Successes] = {}
        for prompt, correct, size in zip(rollouts.prompts, rollouts.correct, rollouts.sizes.tolist(), strict=True):
            before = successes.get(prompt.key, Successes(0, 0))
            successes[prompt.key] = Successes(before.correct + int(correct.sum()), before.sampled + size)
        self.order.learn(iteration, successes)
