"""The tokens that end a response."""

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANSWER = "forty-two"


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that the generation config, the tokenizer or the chat template ends with, in order.

    One may name what the others do not: Qwen2.5-Math's config ends with <|endoftext|>, its chat turns with <|im_end|>.
    """
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    named = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id, turn_end(tokenizer)]
    return tuple(sorted({i for i in named if isinstance(i, int)}))


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template puts after what an assistant says, found by rendering such a turn."""
    if tokenizer.chat_template is None:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, ValueError):  # a template for other conversations than these: it has no say
        return None
    assert isinstance(text, str)
    _, said, after = text.rpartition(ANSWER)
    ids = tokenizer.encode(after, add_special_tokens=False) if said else []
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((i for i in ids if i in special), None)
