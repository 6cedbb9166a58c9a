"""The strategy of a run on several devices where the configuration leaves it open: whole models where they fit."""

import pytest

from running import SMALL, composed
from winnow.assemble import preflight
from winnow.assemble.common import model_source
from winnow.assemble.preflight import before_training
from winnow.config.instantiate import build_algorithm


@pytest.mark.parametrize(
    ("words", "megabytes", "strategy"),
    [
        (("hardware.devices=4",), 1000, "ddp"),
        (("hardware.devices=4",), 10, "fsdp"),
        (("hardware.devices=2", "hardware.nodes=2"), 10, "fsdp"),
        (("hardware.devices=4", "hardware.strategy=ddp"), 10, "ddp"),
        (("hardware.devices=4", "hardware.strategy=fsdp"), 1000, "fsdp"),
        ((), 10, "auto"),
    ],
)
def test_a_model_is_sharded_where_a_whole_one_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], megabytes: int, strategy: str
):
    monkeypatch.setattr(preflight, "available_bytes", lambda cfg: megabytes * 1_000_000)
    cfg = composed(*SMALL, *words)
    found = before_training(cfg, build_algorithm(cfg), model_source(cfg))
    assert found.strategy == strategy
    said = any("sharded over 4" in line for line in found.lines)
    assert said == (cfg.hardware.strategy == "auto" and strategy == "fsdp")


def test_shards_are_a_part_of_what_a_whole_model_takes():
    """Weights, gradients and moments of one process: 16 bytes a parameter, and half of that on two."""
    cfg = composed(*SMALL, "hardware.devices=2")
    algorithm = build_algorithm(cfg)
    whole = preflight.training_plan(cfg, algorithm, False)
    cfg.hardware.strategy = "fsdp"
    shared = preflight.training_plan(cfg, algorithm, False)
    assert (whole.shards, shared.shards) == (0, 2)
