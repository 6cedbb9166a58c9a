"""One process or several, each with a whole model (DDP) or a part of it (FSDP2): the same run."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ranks import trained
from running import FAMILY, SINCE, metrics
from winnow.run_logs.run_files import SampleRecord, read_samples
from winnow.training.checkpoint import load_state

FUNCTIONS = (
    "reward=function",
    "plugins=[their_rewards]",
    "reward.functions=[winnow.rewards:accuracy,their_rewards:graded,their_rewards:reward_schedule,their_rewards:odd]",
    "reward.weights=[1,0.5,0.01,0.1]",
    "reward.workers=1",
)
SETTINGS = ("iterations=2", "hardware.token_budget=300", "optim.lr=1e-4")
IN_FLOAT64 = ("iterations=5", "hardware.token_budget=60", "optim.lr=1e-3", "checkpoint.every=5")
"""Words for `small_gpt2`, whose rows have some 12 tokens: several micro-batches an update."""

LARGE_EPS = ("optim.eps=1e-3",)
NEEDED = {
    "passk": ("algo.advantage.k=2",),
    "dro": LARGE_EPS,
    "reinforce_pp_baseline": LARGE_EPS,
    "cpgd": LARGE_EPS,
}
"""Words that an algorithm needs there. A prompt has four samples, and its k is four. Where no sample has an advantage,
a KL in the loss, or a drift from the old policy, has a gradient that is rounding, of which AdamW's own epsilon of 1e-8
makes a whole step."""


def on(strategy: str, ranks: int) -> tuple[str, str]:
    return f"hardware.strategy={strategy}", f"hardware.devices={ranks}"


def apart(one: Path, other: Path) -> float:
    """The largest distance of two runs' last weights, relative to the largest entry of each tensor."""
    first, second = (load_state(sorted((run / "checkpoints").iterdir())[-1] / "state.ckpt") for run in (one, other))
    a, b = first["state_dict"], second["state_dict"]
    assert {*a} == {*b}
    return max(float((a[k].double() - b[k].double()).abs().max() / a[k].double().abs().max()) for k in a)


def agree(one: Path, other: Path, relative: float, absolute: float) -> None:
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert comparable(a) == pytest.approx(comparable(b), rel=relative, abs=absolute)


def comparable(row: dict[str, float]) -> dict[str, float]:
    """Without the signs and shares of what is zero but for rounding: every margin before the first update, and all
    advantages of an iteration without a correct answer whose only reward is a KL to the weights themselves."""
    rounding = {"train/dpo/acc"}
    if row.get("train/grad_norm", 1.0) < 1e-12:
        rounding |= {"train/gradient_mass/effective_rows", "train/entropy/positive", "train/entropy/negative"}
    return {key: value for key, value in row.items() if key not in rounding}


def require_one_result(folder: Path, algorithms: Sequence[str], ways: Sequence[tuple[str, int]]) -> None:
    """In float64 the weights after five iterations are those of one process to 1e-9, and so are all metrics."""
    words = {algo: (f"algo={algo}", *NEEDED.get(algo, ()), *IN_FLOAT64) for algo in algorithms}
    trained({folder / algo: words[algo] for algo in algorithms}, 1, "small_gpt2")
    for ranks in sorted({ranks for _, ranks in ways}):
        runs = {
            folder / f"{algo}_{strategy}_{ranks}": (*words[algo], *on(strategy, ranks))
            for algo in algorithms
            for strategy, number in ways
            if number == ranks
        }
        trained(runs, ranks, "small_gpt2")
        for run in runs:
            alone = folder / run.name.rsplit("_", 2)[0]
            assert apart(alone, run) < 1e-9, run.name
            agree(alone, run, 1e-9, 1e-12)


@pytest.mark.slow
def test_two_ranks_are_one_whatever_the_strategy(tmp_path: Path):
    require_one_result(tmp_path, FAMILY, [("ddp", 2), ("fsdp", 2)])


@pytest.mark.faults
def test_one_rank_and_four_are_one_as_well(tmp_path: Path):
    require_one_result(tmp_path, FAMILY, [("fsdp", 1), ("ddp", 4), ("fsdp", 4)])


@pytest.mark.faults
def test_the_algorithms_since_the_paper_as_well(tmp_path: Path):
    require_one_result(tmp_path, SINCE, [("ddp", 2), ("fsdp", 4)])


@pytest.mark.faults
def test_the_embedded_model_in_float32(tmp_path: Path):
    """With an epsilon that AdamW's steps depend on: at 1e-8 it turns rounding into whole steps."""
    kinds = {
        "grpo": ("algo=grpo",),
        "ppo": ("algo=ppo", *FUNCTIONS),
        "dpo": ("algo=dpo", *FUNCTIONS),
        "adapter": ("algo=grpo", "model/lora=adapter"),
    }
    words = {name: (*kind, *SETTINGS, "optim.eps=1e-3") for name, kind in kinds.items()}
    trained({tmp_path / name: settings for name, settings in words.items()}, 1)
    runs = {
        tmp_path / f"{name}_{way}": (*settings, *on(way, 2))
        for name, settings in words.items()
        for way in ("ddp", "fsdp")
    }
    coarse = {tmp_path / "bfloat16": ("algo=grpo", *SETTINGS, "hardware.precision=bf16-mixed", *on("fsdp", 2))}
    said = trained(runs | coarse, 2)
    # Sampling and updates compute with the same bfloat16 weights.
    assert all(row["rollout/mismatch_kl"] < 1e-3 for row in metrics(tmp_path / "bfloat16")[1:])
    for run in runs:
        alone = tmp_path / run.name.rsplit("_", 1)[0]
        one, two = (load_file(each / "export" / "model.safetensors") for each in (alone, run))
        assert max(float((one[k] - two[k]).abs().max() / one[k].abs().max()) for k in one) < 1e-6, run.name
        agree(alone, run, 1e-2, 1e-4)
        # While the weights are those of the start, the samples are the same, and so is all that functions return.
        first, second = (read_samples(each / "samples" / "iteration_000001.jsonl") for each in (alone, run))
        assert [reward_of(sample) for sample in first] == [reward_of(sample) for sample in second]
        lost = [sample.lost for sample in second if sample.lost is not None]
        if "ppo" in run.name or "dpo" in run.name:
            assert {*lost} == {"odd: ValueError: no odd digit"}
            assert f"{len(lost)} rows without a reward left out" in said


def reward_of(sample: SampleRecord) -> tuple[object, ...]:
    """All that is known of a sample's reward, in which a lost one equals itself."""
    return (sample.prompt_key, sample.response, sample.rewards, sample.logged, sample.lost, repr(sample.reward))


@pytest.mark.faults
@pytest.mark.parametrize("names", ["ppo", "grpo adapter"])
def test_a_sharded_checkpoint_goes_on_elsewhere(tmp_path: Path, names: str):
    """From two ranks to one, to two with whole models, and from a whole model to shards."""
    kinds = {name: KINDS[name] for name in names.split()}
    whole = {tmp_path / name: (*kind, *IN_FLOAT64) for name, kind in kinds.items()}
    trained(whole, 1, "small_gpt2")
    half = ("iterations=2", "checkpoint.every=2")
    begun = {
        tmp_path / f"{name}_{end}": (*kind, *IN_FLOAT64, *half, *on(start, 2))
        for name, kind in kinds.items()
        for end, start in (("one", "fsdp"), ("ddp", "fsdp"), ("fsdp", "ddp"))
    }
    trained(begun, 2, "small_gpt2")
    for ranks, ends in ((1, ("one",)), (2, ("ddp", "fsdp"))):
        resumed = {}
        for run in begun:
            name, end = run.name.rsplit("_", 1)
            if end in ends:
                way = on(end, 2) if end != "one" else on("auto", 1)
                resumed[run] = (*KINDS[name], *IN_FLOAT64, *way, f"resume={run}")
        trained(resumed, ranks, "small_gpt2")
        for run in resumed:
            assert apart(tmp_path / run.name.rsplit("_", 1)[0], run) < 1e-9, run.name


KINDS = {"grpo": ("algo=grpo",), "ppo": ("algo=ppo",), "adapter": ("algo=grpo", "model/lora=adapter")}


@pytest.mark.faults
def test_four_ranks_go_on_as_two_and_as_one(tmp_path: Path):
    trained({tmp_path / name: (*kind, *IN_FLOAT64) for name, kind in KINDS.items()}, 1, "small_gpt2")
    half = ("iterations=2", "checkpoint.every=2")
    begun = {
        tmp_path / f"{name}_{ranks}": (*kind, *IN_FLOAT64, *half, *on("fsdp", 4))
        for name, kind in KINDS.items()
        for ranks in (1, 2)
    }
    trained(begun, 4, "small_gpt2")
    for ranks in (1, 2):
        resumed = {
            tmp_path / f"{name}_{ranks}": (*kind, *IN_FLOAT64, *on("fsdp", ranks), f"resume={tmp_path}/{name}_{ranks}")
            for name, kind in KINDS.items()
        }
        trained(resumed, ranks, "small_gpt2")
        for run in resumed:
            assert apart(tmp_path / run.name.rsplit("_", 1)[0], run) < 1e-9, run.name
