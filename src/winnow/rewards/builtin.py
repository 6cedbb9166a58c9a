r"""Reward functions that come with Winnow, in TRL's form; each returns one number for each completion.

Type for example `reward=function reward.functions=[winnow.rewards:accuracy,winnow.rewards:length_penalty]`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from random import Random

Message = dict[str, str]
Completions = Sequence[str | list[Message]]


def text_of(completion: str | list[Message]) -> str:
    """The text of a completion, which is a message list where the problem is a chat."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def accuracy(completions: Completions, verdict: Sequence[str]) -> list[float]:
    """1 where the verifier's verdict is `correct`, else 0."""
    return [1.0 if each == "correct" else 0.0 for each in verdict]


def inverted_accuracy(completions: Completions, verdict: Sequence[str]) -> list[float]:
    """0 where the verifier's verdict is `correct`, else 1: a control that rewards mistakes."""
    return [0.0 if each == "correct" else 1.0 for each in verdict]


def random_reward(completions: Completions, random_seed: Sequence[int], rate: float = 0.5) -> list[float]:
    """1 with the probability `rate`, whatever the response, else 0: a control that carries no information.

    The draw is a function of the response's own random seed, so that a run that is computed again has the same.
    """
    return [1.0 if Random(f"random_reward {seed}").random() < rate else 0.0 for seed in random_seed]


def format_match(completions: Completions, pattern: str) -> list[float]:
    r"""1 where the whole completion matches the regular expression `pattern`, of which a dot is any character, else 0.

    Example: `^<think>.*</think>\s*<answer>.*</answer>$`.
    """
    expression = _compiled(pattern)
    return [1.0 if expression.fullmatch(text_of(each).strip()) else 0.0 for each in completions]


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


def length_penalty(completions: Completions, completion_ids: Sequence[Sequence[int]], target: int) -> list[float]:
    """0 up to `target` tokens, then −1 for each further `target` tokens, in proportion."""
    return [0.0 - max(0, len(ids) - target) / target for ids in completion_ids]


def overlong_penalty(
    completions: Completions, completion_ids: Sequence[Sequence[int]], max_tokens: int, cache: int
) -> list[float]:
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13): 0, then falling to −1 over the last `cache` tokens.

    With L_max = `max_tokens` and L_cache = `cache`, a response of L tokens gets 0 up to L_max − L_cache, then
    ((L_max − L_cache) − L) / L_cache, and −1 above L_max.
    """
    return [0.0 - min(1.0, max(0.0, (len(ids) - (max_tokens - cache)) / cache)) for ids in completion_ids]


def repetition_penalty(completions: Completions, ngram: int = 3, most: float = -1.0) -> list[float]:
    """`most` times the share of repeated n-grams of words: 0 where all are different (arXiv 2502.03373, section 4)."""
    return [most * _repeated_share(text_of(each).lower().split(), ngram) for each in completions]


def _repeated_share(words: Sequence[str], ngram: int) -> float:
    found = Counter(tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1))
    return 1 - len(found) / total if (total := sum(found.values())) else 0.0
