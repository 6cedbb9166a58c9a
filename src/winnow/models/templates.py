"""Prompt templates, which `model.template` selects: the problem alone, or inside the tokenizer's chat template."""

from dataclasses import dataclass
from datetime import date
from typing import Protocol, runtime_checkable

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from winnow.errors import ConfigError
from winnow.models.conversation import Conversation, Message
from winnow.models.special_tokens import EncodedText, special_tokens_of

TEMPLATE_DATE = date(2024, 7, 26)
"""The date given to chat templates that ask for today's, so that prompts do not depend on it: Llama 3.2's own
default."""


@runtime_checkable
class Template(Protocol):
    """Interface of prompt templates."""

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> str:
        """The text that the model continues, including the special tokens at its beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """The problem alone, after the beginning-of-sequence token if the tokenizer adds one by default."""

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> str:
        if len(conversation) > 1:
            raise ConfigError(
                f"model.template: the problem is a chat of {len(conversation)} messages, and model/template=plain has "
                "no roles; type model/template=boxed"
            )
        return beginning(tokenizer) + conversation[0].content


@dataclass(frozen=True, slots=True)
class Chat:
    """The tokenizer's own chat template around the problem and an instruction (paper section 4).

    The instruction follows the last message. The system message is the conversation's own where it has one.
    """

    system: str | None
    instruction: str

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> str:
        if tokenizer.chat_template is None:
            raise ConfigError(
                "model.template: this tokenizer has no chat template; type model/template=plain for the problem alone"
            )
        try:
            text = tokenizer.apply_chat_template(
                [message._asdict() for message in self._messages(conversation)],
                tokenize=False,
                add_generation_prompt=True,
                strftime_now=TEMPLATE_DATE.strftime,
            )
        except (TemplateError, ValueError) as error:
            raise ConfigError(
                f"model.template: this tokenizer's chat template refuses the messages ({error}); "
                "type model.template.system=null or model/template=plain"
            ) from error
        assert isinstance(text, str)
        return text

    def _messages(self, conversation: Conversation) -> list[Message]:
        *before, last = conversation
        if self.system and conversation[0].role != "system":
            before.insert(0, Message("system", self.system))
        return [*before, Message(last.role, f"{last.content} {self.instruction}") if self.instruction else last]


def encode_prompt(conversation: Conversation, template: Template, tokenizer: PreTrainedTokenizerBase) -> EncodedText:
    """The prompt of a conversation, in which all special tokens are the template's.

    Raises:
        ConfigError: the template has no place for such a conversation.
    """
    special = special_tokens_of(tokenizer)
    shielded = [message._replace(content=special.shield(message.content)) for message in conversation]
    return special.encode(template.render(shielded, tokenizer))


def beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-sequence token if the tokenizer puts it before every text by default (Llama), else ""."""
    bos = tokenizer.bos_token
    if not isinstance(bos, str):
        return ""
    return bos if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else ""
