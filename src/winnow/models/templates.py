"""Prompt templates, which `model.template` selects: the problem alone, or inside the tokenizer's chat template."""

from dataclasses import dataclass
from datetime import date
from typing import Protocol, runtime_checkable

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from winnow.errors import ConfigError

TEMPLATE_DATE = date(2024, 7, 26)
"""The date given to chat templates that ask for today's, so that prompts do not depend on it: Llama 3.2's own
default."""


@runtime_checkable
class Template(Protocol):
    """Interface of prompt templates."""

    def render(self, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
        """The text that the model continues, including the special tokens at its beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """The problem alone, after the beginning-of-sequence token if the tokenizer adds one by default."""

    def render(self, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
        bos = beginning(tokenizer)
        return problem if problem.startswith(bos) else bos + problem


@dataclass(frozen=True, slots=True)
class Chat:
    """The tokenizer's own chat template around the problem and an instruction (paper section 4)."""

    system: str | None
    instruction: str

    def render(self, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
        if tokenizer.chat_template is None:
            raise ConfigError(
                "model.template: this tokenizer has no chat template; type model/template=plain for the problem alone"
            )
        user = {"role": "user", "content": f"{problem} {self.instruction}" if self.instruction else problem}
        system = [{"role": "system", "content": self.system}] if self.system else []
        try:
            text = tokenizer.apply_chat_template(
                [*system, user], tokenize=False, add_generation_prompt=True, strftime_now=TEMPLATE_DATE.strftime
            )
        except (TemplateError, ValueError) as error:
            raise ConfigError(
                f"model.template: this tokenizer's chat template refuses the messages ({error}); "
                "type model.template.system=null or model/template=plain"
            ) from error
        assert isinstance(text, str)
        return text


def beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-sequence token if the tokenizer puts it before every text by default (Llama), else ""."""
    bos = tokenizer.bos_token
    if not isinstance(bos, str):
        return ""
    return bos if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else ""
