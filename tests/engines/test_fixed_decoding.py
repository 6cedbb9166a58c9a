"""Decoding with fixed shapes draws the same as with growing ones; tests/test_cuda.py tests the CUDA graphs."""

from itertools import chain

import pytest
import torch

from winnow.engines import decoding
from winnow.engines.decoding import FixedDecoding
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import ConfigError
from winnow.models.attention import is_packed
from winnow.models.backbone import pack_where_exact
from winnow.types import Completion, Sampling

from .models import tiny
from .test_torch_engine import PROMPTS, seeds_for


def drawn(style: str, graphs: bool, max_rows: int | None = None) -> list[Completion]:
    model = tiny(style, torch.float64).eval()  # our attention has no dropout
    pack_where_exact(model)
    assert is_packed(model)
    engine = TorchEngine((0, 4), max_rows=max_rows, graphs=graphs)
    engine.sync(model, 1)
    return list(chain(*engine.generate(PROMPTS, seeds_for(PROMPTS, 6), Sampling(1.0, 30))))


@pytest.mark.parametrize("bucket", [4, 256])
@pytest.mark.parametrize("style", ["qwen2", "llama", "gpt2"])
def test_the_same_samples_through_widening_compaction_and_joining(
    style: str, bucket: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "POSITION_BUCKET", bucket)
    growing = drawn(style, graphs=False)
    assert len({len(one.token_ids) for one in growing}) > 4
    for found in (drawn(style, graphs=True), drawn(style, graphs=True, max_rows=7)):
        for one, same in zip(found, growing, strict=True):
            assert (one.token_ids, one.finish) == (same.token_ids, same.finish)
            torch.testing.assert_close(one.logprobs, same.logprobs, rtol=0, atol=1e-5)


def test_models_that_cannot_be_captured_are_refused() -> None:
    for model, why in (
        (tiny("llama"), "transformers' own attention"),
        (tiny("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), "dynamic rotary"),
    ):
        if "dynamic" in why:
            pack_where_exact(model.eval())
        with pytest.raises(ConfigError, match=f"engine.graphs=true: .*{why}"):
            TorchEngine((0,), graphs=True).sync(model, 1)


def test_shapes_change_only_with_the_rows_and_by_whole_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "POSITION_BUCKET", 8)
    shapes = []
    step = FixedDecoding._step

    def noted(self: FixedDecoding) -> None:
        shapes.append(tuple(self.visible.shape))
        step(self)

    monkeypatch.setattr(FixedDecoding, "_step", noted)
    drawn("llama", graphs=True)
    assert {width % 8 for _, width in shapes} == {0}
    assert len(set(shapes)) < len(shapes) / 2
