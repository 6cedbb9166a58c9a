"""A probe: short rows on which two computations of one model are compared before a run relies on them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from winnow.errors import ConfigError
from winnow.types import Row

TOLERANCE = 1e-3
"""Nats between two computations of a log-probability that agree in exact arithmetic. Rounding in float32 is far below
it, and the effect of attending to another row's token is far above."""


def probe_rows(model: PreTrainedModel) -> list[Row]:
    """Three short rows: two responses to one prompt, and one to a shorter prompt."""
    names = [i % model.config.get_text_config().vocab_size for i in range(11)]
    return [
        Row((*names[:3], *names[3:7]), 3),
        Row((*names[:3], *names[7:9]), 3),
        Row((*names[9:11], *names[4:6]), 2),
    ]


def alone(model: PreTrainedModel, rows: Sequence[Row]) -> Float[Tensor, " r"]:
    """The log-probability of each response token, row by row, by a plain forward of one whole row at a time.

    This is what transformers computes when nothing of Winnow's is involved: no padding, no cache, no packed rows.

    Raises:
        ConfigError: the model has no such forward.
    """
    found = []
    for row in rows:
        tokens = torch.tensor([row.token_ids], device=model.device)
        try:
            with torch.no_grad():
                logits = model(input_ids=tokens, use_cache=False).logits[0, row.prompt_length - 1 : -1]
        except Exception as error:  # what fails depends on the architecture
            raise ConfigError(
                f"model: {type(model).__name__} cannot compute log-probabilities from token ids alone "
                f"({one_line(error)}); choose a decoder (Qwen, Llama, …)"
            ) from error
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = tokens[0, row.prompt_length :, None]
        found.append(logits.log_softmax(-1).gather(-1, targets).squeeze(-1))
    return torch.cat(found)


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether two computations of the same log-probabilities differ by rounding only; false if one is not finite."""
    return bool((found - expected).abs().max() <= TOLERANCE)


def one_line(error: BaseException) -> str:
    """The type and the beginning of the message of an `error` of a library."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
