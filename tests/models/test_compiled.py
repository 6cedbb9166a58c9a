"""Compiled blocks: the same gradients as without compilation."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from engines.models import tiny
from winnow.errors import ConfigError
from winnow.models.backbone import compile_blocks, pack_where_exact
from winnow.models.policy import Policy
from winnow.packed import pack
from winnow.types import Row

ROWS = [Row((5, 2, 9, *range(n)), 3) for n in (9, 5, 1)] + [Row((4, *range(6)), 1)]


def gradients(model: PreTrainedModel) -> list[torch.Tensor]:
    policy = Policy(model, 1.0)
    for rows in (ROWS, ROWS[:2], ROWS[1:]):  # other numbers of tokens, the same compilation
        policy(pack(rows)).logprobs.sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_compiled_blocks_have_the_same_gradients() -> None:
    """With the tracer alone, because building inductor's code takes a minute."""
    plain, compiled = tiny("llama"), tiny("llama")
    for model in (plain, compiled):
        pack_where_exact(model)
    compile_blocks(compiled, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for found, expected in zip(gradients(compiled), gradients(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # something was compiled


def test_a_model_without_blocks_is_refused() -> None:
    class Bare(nn.Module): ...

    with pytest.raises(ConfigError, match=r"Bare has no blocks to compile; type hardware.compile=false"):
        compile_blocks(Bare())  # pyright: ignore[reportArgumentType]
