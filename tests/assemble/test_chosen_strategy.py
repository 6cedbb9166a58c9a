"""The strategy of a run on several devices where the configuration leaves it open: whole models where they fit."""

import pytest

from running import SMALL, composed
from winnow.assemble import preflight
from winnow.assemble.common import model_source
from winnow.assemble.preflight import before_training, training_plan
from winnow.config.instantiate import build_algorithm
from winnow.models.memory import estimate, shape_of


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


def test_shards_are_half_of_what_a_whole_model_takes_on_two():
    """Weights, and AdamW's moments of them; gradients are also held in DDP's buckets, so a quarter."""
    cfg = composed(*SMALL, "hardware.devices=2")
    algorithm, shape = build_algorithm(cfg), shape_of(model_source(cfg))
    assert shape is not None
    whole = estimate(shape, training_plan(cfg, algorithm, False))
    cfg.hardware.strategy = "fsdp"
    shared = estimate(shape, training_plan(cfg, algorithm, False))
    assert shared.masters == whole.masters / 2 == 2 * shape.parameters
    assert shared.optimiser == whole.optimiser / 2 == 4 * shape.parameters
    assert shared.gradients == whole.gradients / 4 == 2 * shape.parameters


@pytest.mark.parametrize(
    ("words", "rows", "samples"),
    [
        ((), 12, 4),
        (("collector=refill", "collector.prompts=9"), 36, 4),
        (("collector=adaptive", "collector.samples=7", "collector.rounds=2"), 21, 7),
        (("collector=budgets", "collector.presamples=6"), 18, 6),
    ],
)
def test_a_collector_samples_its_largest_round_at_once(words: tuple[str, ...], rows: int, samples: int):
    cfg = composed(*SMALL, "rollout.prompts=3", "rollout.samples=4", *words)
    plan = training_plan(cfg, build_algorithm(cfg), False)
    assert (plan.rows, plan.samples) == (rows, samples)
    assert plan.batch_rows == -(-12 // cfg["update"].minibatches)


def test_a_sampler_of_altered_weights_has_a_copy_of_them():
    cfg = composed(*SMALL)
    algorithm, shape = build_algorithm(cfg), shape_of(model_source(cfg))
    assert shape is not None
    plain, altered = (
        estimate(shape, training_plan(composed(*SMALL, f"engine/alter={name}"), algorithm, False))
        for name in ("temperature", "int8")
    )
    assert altered.sampling - plain.sampling == 4 * shape.parameters


@pytest.mark.parametrize(("words", "said"), [((), "1 of the 8"), (("hardware.devices=3",), "3 of the 8")])
def test_gpus_that_nobody_uses_are_told(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str):
    monkeypatch.setattr(preflight, "on_cuda", lambda cfg: True)
    monkeypatch.setattr(preflight.torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(preflight, "available_bytes", lambda cfg: 1e9)
    cfg = composed(*SMALL, *words)
    lines = before_training(cfg, build_algorithm(cfg), model_source(cfg)).lines
    assert [line for line in lines if "hardware.devices=8" in line and said in line]
    cfg = composed(*SMALL, "hardware.devices=8")
    assert not [line for line in before_training(cfg, build_algorithm(cfg), model_source(cfg)).lines if "GPUs" in line]
