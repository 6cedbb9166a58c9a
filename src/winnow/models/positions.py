"""Positions: how long a row may become before the model has no position for a token, or one that changes all others.

Rotary positions of the kinds dynamic NTK and longrope turn the tokens of a row by angles that depend on its length once
it is longer than the rows of pretraining. A token's log-probability is then not settled before its row has ended, and
rows that are computed together change each other: no sampler with a cache, and no packed row, agrees with a plain
forward of the row.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from winnow.errors import ConfigError
from winnow.models.architecture import EAGER, attention_as
from winnow.models.attention import FLASH
from winnow.models.probe import agree, probe_rows

FREQUENCIES = "inv_freq"
"""The end of the name of transformers' buffers of rotary frequencies, which these kinds of positions replace."""
SHORTEST = 4
"""Tokens of the rows that are tried."""


def has_positions(model: PreTrainedModel, tokens: int) -> bool:
    """Whether rows of `tokens` tokens have positions, and such as do not depend on a row's length."""
    return _wrong_at(model, tokens) is None


def require_positions(model: PreTrainedModel, prompt: int, response: int, instead: str) -> None:
    """Check that rows of `prompt` + `response` tokens have positions, and such as do not depend on a row's length.

    Raises:
        ConfigError: they have not; the message says how many tokens a row may have, and to lower `instead`.
    """
    tokens = prompt + response
    wrong = _wrong_at(model, tokens)
    if wrong is None:
        return
    right, beyond = SHORTEST, tokens
    while beyond - right > 1:
        middle = (right + beyond) // 2
        right, beyond = (middle, beyond) if _wrong_at(model, middle) is None else (right, middle)
    _wrong_at(model, right)  # leaves the frequencies of short rows in place
    raise ConfigError(
        f"model: {type(model).__name__} {wrong.format(right)}, and a prompt and its response may have {prompt} + "
        f"{response}; lower {instead}, so that they have at most {right} together"
    )


def _wrong_at(model: PreTrainedModel, tokens: int) -> str | None:
    """The fault of rows of `tokens` tokens, in words, found by a few tokens of which the last has the last position."""
    if tokens <= SHORTEST:
        return None
    short, frequencies = _last_at(model, SHORTEST), _frequencies(model)
    try:
        long = _last_at(model, tokens)
    except (IndexError, RuntimeError):  # of an embedding or another table of positions
        return "has positions for {} tokens"
    changed = any(not torch.equal(before, now) for before, now in zip(frequencies, _frequencies(model), strict=True))
    if changed or not agree(long, short):
        return "changes the rotary positions of a whole row, its first tokens included, when it has more than {} tokens"
    return None


def _last_at(model: PreTrainedModel, tokens: int) -> Tensor:
    """The logits of the first tokens of a row whose last token has position `tokens` − 1."""
    ids = torch.tensor([probe_rows(model)[0].token_ids[:SHORTEST]], device=model.device)
    positions = torch.arange(SHORTEST, device=model.device)
    positions[-1] = tokens - 1
    usable = model.config._attn_implementation != FLASH  # which has no float32
    with torch.no_grad(), attention_as(model, (model.config._attn_implementation or EAGER) if usable else EAGER):
        return model(input_ids=ids, position_ids=positions[None], use_cache=False).logits[0, :-1].float()


def _frequencies(model: PreTrainedModel) -> list[Tensor]:
    return [buffer.clone() for name, buffer in sorted(model.named_buffers()) if name.endswith(FREQUENCIES)]
