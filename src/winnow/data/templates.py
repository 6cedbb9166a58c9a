"""How a problem becomes a prompt: what `model.template` builds."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from transformers import PreTrainedTokenizerBase

from winnow.errors import ConfigError


@runtime_checkable
class Template(Protocol):
    def render(self, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
        """The text that the model continues."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """The problem and nothing else."""

    def render(self, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
        return problem


@dataclass(frozen=True, slots=True)
class Chat:
    """The tokenizer's own chat template, around the problem and an instruction (paper section 4)."""

    system: str | None
    instruction: str

    def render(self, problem: str, tokenizer: PreTrainedTokenizerBase) -> str:
        if tokenizer.chat_template is None:
            raise ConfigError(
                "model.template: this tokenizer has no chat template; type model/template=plain for the bare problem"
            )
        user = {"role": "user", "content": f"{problem} {self.instruction}"}
        system = [{"role": "system", "content": self.system}] if self.system else []
        text = tokenizer.apply_chat_template([*system, user], tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return text
