"""What moves between iterations: a reference policy that follows the policy, and an entropy coefficient."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ranks import trained
from running import metrics, run, weights
from small_gpt2 import small_gpt2
from test_world_size import IN_FLOAT64, agree, apart, on
from winnow.algorithm import PolicyGradient
from winnow.errors import ConfigError
from winnow.explain.objective import explained
from winnow.explain.proof import prove_loss
from winnow.models.policy import FrozenCopy, Policy
from winnow.objectives import KL, AdaptiveEntropy, Sync
from winnow.ops import advantage, aggregate, clip, kl, ratio, select
from winnow.training.checkpoint import load_state
from winnow.training.sharded_state import REFERENCE

CHECKED = ("checks.every=1", "optim.lr=1e-3")
"""Every iteration is recomputed by plain forwards, which fails a run whose reference or coefficient is another."""
IN_LOSS = ("algo/kl=k3", "algo.kl.coef=0.1", "algo.kl.reference=synced")
MOVING = {
    "reset": ("algo=grpo", *IN_LOSS, "algo.kl.sync.every=2"),
    "average": ("algo=reinforce", *IN_LOSS, "algo.kl.sync.every=1", "algo.kl.sync.share=0.25"),
    "in the reward": ("algo=ppo", *IN_LOSS, "algo.kl.place=reward", "algo.kl.sync.every=2", "algo.kl.sync.share=0.5"),
    "pairs": ("algo=dpo", "algo.reference=synced", "algo.sync.every=1", "algo.sync.share=0.5"),
    "entropy": ("algo=grpo", "algo/entropy=adaptive", "algo.entropy.target=10.0", "algo.entropy.start=0.01"),
}


def state(directory: Path, iteration: int) -> Mapping[str, Any]:
    return load_state(directory / "checkpoints" / f"iteration_{iteration:06d}" / "state.ckpt")


def test_a_reference_follows_by_a_share_of_the_way():
    """From 4 towards 8 by a quarter is 5, then towards 9 by a quarter 6; the whole way is to the policy itself."""
    policy = Policy(small_gpt2(), 1.0)
    [*weights_of_policy] = policy.parameters()
    torch.nn.init.constant_(weights_of_policy[0], 4.0)
    reference = FrozenCopy(policy)
    name = next(iter(reference.weights()))
    for value, share, expected in ((8.0, 0.25, 5.0), (9.0, 0.25, 6.0), (0.1, 1.0, 0.1)):
        torch.nn.init.constant_(weights_of_policy[0], value)
        reference.follow(policy, share)
        torch.testing.assert_close(reference.weights()[name], torch.full_like(weights_of_policy[0], expected))
    for own, other in zip(reference.weights().values(), policy.parameters(), strict=True):
        assert torch.equal(own, other)
    assert reference.moves == 3
    assert [n for n in range(1, 8) if Sync(every=3).is_due(n)] == [3, 6]


def test_a_coefficient_moves_towards_the_target_and_counts_only_below_it():
    moving = AdaptiveEntropy(target=1.0, step=0.1, low=0.0, high=0.25, start=0.05)
    found = []
    for entropy in (0.5, 0.5, 1.0, 2.0, math.nan, 3.0, 3.0, 0.2):
        moving.begin(entropy)
        found.append((moving.applied, moving.coef))
        moving.end()
    assert [applied for applied, _ in found] == pytest.approx([0.05, 0.15, 0.25, 0, 0, 0, 0, 0])
    assert [coef for _, coef in found] == pytest.approx([0.05, 0.15, 0.25, 0.25, 0.15, 0.15, 0.05, 0])
    assert moving.coef == pytest.approx(0.1)


IN_THE_SUITE = ("average", "entropy")


@pytest.mark.parametrize(
    "name", [n if n in IN_THE_SUITE else pytest.param(n, marks=pytest.mark.faults) for n in MOVING]
)
def test_what_moves_resumes_exactly(tmp_path: Path, name: str):
    words = (*MOVING[name], *CHECKED)
    run(tmp_path / "whole", *words, "iterations=4", "checkpoint.every=4")
    run(tmp_path / "parts", *words, "iterations=2")
    run(tmp_path / "parts", *words, "iterations=4", f"resume={tmp_path / 'parts'}")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert metrics(tmp_path / "parts")[3:] == metrics(tmp_path / "whole")[3:]
    one, other = state(tmp_path / "parts", 4), state(tmp_path / "whole", 4)
    assert one.get("entropy_coef") == other.get("entropy_coef")
    kept = one.get(REFERENCE, {})
    assert all(torch.equal(tensor, other[REFERENCE][key]) for key, tensor in kept.items())
    assert (name == "entropy") != bool(kept)


def test_a_reset_begins_the_distance_to_the_reference_again(tmp_path: Path):
    """`train/kl_ref` is 0 in the first iteration and in the one after each reset, and in no other."""
    run(tmp_path, *MOVING["reset"], *CHECKED, "iterations=4")
    found = [row["train/kl_ref"] for row in metrics(tmp_path)[1:]]
    assert [value < 1e-9 for value in found] == [True, False, True, False]
    saved = state(tmp_path, 4)
    assert all(torch.equal(saved["state_dict"][f"policy.{name}"], own) for name, own in saved[REFERENCE].items())


def test_an_average_is_that_of_the_saved_weights(tmp_path: Path):
    run(tmp_path, *MOVING["average"], *CHECKED, "iterations=3", "checkpoint.every=1", "checkpoint.keep=all")
    for iteration in (2, 3):
        before, after = state(tmp_path, iteration - 1), state(tmp_path, iteration)
        for name, own in after[REFERENCE].items():
            expected = 0.75 * before[REFERENCE][name] + 0.25 * after["state_dict"][f"policy.{name}"]
            torch.testing.assert_close(own, expected)
        moved = [name for name, own in after[REFERENCE].items() if not torch.equal(own, before[REFERENCE][name])]
        assert moved


def test_a_checkpoint_without_a_reference_begins_with_the_initial_one(tmp_path: Path):
    """That of a run whose reference did not follow the policy, which a forced change lets go on with one that does."""
    words = ("algo=grpo", "algo/kl=k3", *CHECKED)
    run(tmp_path, *words, "iterations=1")
    assert REFERENCE not in state(tmp_path, 1)
    run(tmp_path, *words, *IN_LOSS, "algo.kl.sync.every=2", "iterations=3", f"resume={tmp_path}", "resume_force=true")
    found = [row["train/kl_ref"] for row in metrics(tmp_path)[1:]]
    assert [value < 1e-9 for value in found] == [True, False, True]


def test_a_coefficient_that_cannot_move_is_a_fixed_one(tmp_path: Path):
    """Between equal bounds it is that number below the target, and 0 above it."""
    bounds = [f"algo.entropy.{name}=0.02" for name in ("low", "high", "start")]
    adaptive = ("algo=grpo", "algo/entropy=adaptive", *bounds, *CHECKED, "iterations=2")
    for name, target, fixed in (("below", 10.0, 0.02), ("above", 0.0, 0.0)):
        run(tmp_path / name, *adaptive, f"algo.entropy.target={target}")
        run(tmp_path / f"fixed_{name}", "algo=grpo", f"algo.entropy={fixed}", *CHECKED, "iterations=2")
        rows = metrics(tmp_path / name)
        assert [row.pop("train/entropy_coef") for row in rows[1:]] == [fixed, fixed]
        assert rows == metrics(tmp_path / f"fixed_{name}")
        assert weights(tmp_path / name) == weights(tmp_path / f"fixed_{name}")
    assert weights(tmp_path / "below") != weights(tmp_path / "above")


def test_the_coefficient_of_a_run_moves_once_an_iteration(tmp_path: Path):
    """Whatever the number of updates and micro-batches."""
    found = []
    for name, more in (("one", ("update.minibatches=1",)), ("four", ("update.epochs=2", "hardware.token_budget=200"))):
        run(tmp_path / name, *MOVING["entropy"], *CHECKED, *more, "iterations=3")
        found.append([row["train/entropy_coef"] for row in metrics(tmp_path / name)[1:]])
        assert state(tmp_path / name, 3)["entropy_coef"] == pytest.approx(0.025)
    assert found == [pytest.approx([0.01, 0.015, 0.02])] * 2


def test_both_stand_in_the_formula():
    moving = AdaptiveEntropy(target=1.0, step=0.1, low=0.0, high=1.0, start=0.3)
    algorithm = PolicyGradient(
        select=select.all_samples,
        advantage=advantage.reward,
        ratio=ratio.token,
        clip=clip.unclipped,
        aggregate=aggregate.sequence_mean,
        kl=KL(kl.k3, coef=0.2, reference="synced", sync=Sync(50, 0.6)),
        correction=ratio.uncorrected,
        entropy=moving,
        rejected="drop",
    )
    found = explained(algorithm)
    said = " ".join([each.said + " ".join(each.notes) for each in found.terms])
    assert "more than 1 nats" in said
    assert "0.6 · π + 0.4 · π_ref every 50 iterations" in said
    for entropy, coef in ((0.5, 0.3), (2.0, 0.0)):
        moving.begin(entropy)
        assert algorithm.objective.entropy_coef == coef
        assert prove_loss(algorithm.objective, aggregate.sequence_mean, found.losses[0][1]).holds
    assert not prove_loss(replace(algorithm.objective, kl=None), aggregate.sequence_mean, found.losses[0][1]).holds


@pytest.mark.parametrize("settings", [{"start": 2.0}, {"low": 0.5, "start": 0.1}])
def test_a_start_outside_of_the_bounds_is_refused(settings: dict[str, float]):
    with pytest.raises(ConfigError, match=r"algo\.entropy\.start=.*type algo\.entropy\.start="):
        AdaptiveEntropy(**{"target": 1.0, "step": 0.1, "low": 0.0, "high": 1.0, "start": 0.0} | settings)


@pytest.mark.faults
def test_they_are_the_same_on_two_ranks(tmp_path: Path):
    """With whole models and with shards, in one go and resumed by another number of ranks."""
    words = (*MOVING["average"], "algo/entropy=adaptive", "algo.entropy.target=10.0", *IN_FLOAT64, "checkpoint.every=1")
    words += ("checkpoint.keep=all",)
    trained({tmp_path / "one": words}, 1, "small_gpt2")
    ways = {tmp_path / way: (*words, *on(way, 2)) for way in ("ddp", "fsdp")}
    half = {tmp_path / "parts": (*words, *on("fsdp", 2), "iterations=2")}
    trained({**ways, **half}, 2, "small_gpt2")
    trained({tmp_path / "parts": (*words, f"resume={tmp_path / 'parts'}")}, 1, "small_gpt2")
    back = {tmp_path / "back": (*words, *on("fsdp", 2), f"resume={tmp_path / 'back'}")}
    trained({tmp_path / "back": (*words, "iterations=2")}, 1, "small_gpt2")
    trained(back, 2, "small_gpt2")
    for name in ("ddp", "fsdp", "parts", "back"):
        assert apart(tmp_path / "one", tmp_path / name) < 1e-9, name
        if name in ("ddp", "fsdp"):  # the others were evaluated where they paused
            agree(tmp_path / "one", tmp_path / name, 1e-9, 1e-12)
        one, other = state(tmp_path / "one", 5), state(tmp_path / name, 5)
        assert one["entropy_coef"] == other["entropy_coef"]
        assert {*one[REFERENCE]} == {*other[REFERENCE]}
        for key, own in one[REFERENCE].items():
            torch.testing.assert_close(own, other[REFERENCE][key], rtol=1e-9, atol=1e-12)
