"""Positions that run out, or that change with the length of a row: refused before anything is sampled."""

from pathlib import Path
from typing import Any

import pytest
import torch

from winnow.errors import ConfigError
from winnow.models.language_model import Pretrained
from winnow.models.positions import has_positions, require_positions
from winnow.models.templates import Plain

from .architectures import checkpoint


def rotary(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **settings}}


FACTORS = {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0], "partial_rotary_factor": 1.0}
LIMITS: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "learned": ("gpt2", {"n_positions": 32}, 32),
    "learned, with an offset": ("opt", {"max_position_embeddings": 32}, 32),
    "a table of sines": ("gptj", {"n_positions": 32}, 32),
    "rotary": ("llama", {"max_position_embeddings": 32}, None),
    "linear": ("llama", rotary("linear"), None),
    "YaRN": ("llama", rotary("yarn", original_max_position_embeddings=32), None),
    "dynamic NTK": ("llama", {"max_position_embeddings": 32, **rotary("dynamic")}, 32),
    "longrope": (
        "phi3",
        {"original_max_position_embeddings": 32, **rotary("longrope", original_max_position_embeddings=32, **FACTORS)},
        32,
    ),
}
"""Architectures with their settings, and the most tokens of a row; None for no limit."""


@pytest.mark.parametrize("kind", LIMITS)
def test_the_most_tokens_of_a_row(kind: str, tmp_path: Path):
    architecture, changes, limit = LIMITS[kind]
    model = Pretrained("x", str(checkpoint(architecture, tmp_path / "m", **changes)), Plain()).load().model
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
    if limit is None:
        require_positions(model, 500, 500, "x")
    else:
        require_positions(model, 12, limit - 12, "x")
        assert not has_positions(model, limit + 1)
        with pytest.raises(
            ConfigError, match=rf"\b{limit} tokens, and .* may have 20 \+ 30; lower x, so .* at most {limit} "
        ):
            require_positions(model, 20, 30, "x")
    with torch.no_grad():  # trying has left nothing behind
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)
