"""Samples drawn ahead of their training: with the right policy, the same beside the updates and before them."""

import copy
import time
from pathlib import Path

import pytest
import torch

from running import metrics, run, weights
from small_gpt2 import train_on_sums
from winnow.assemble import common
from winnow.assemble import training as assemble
from winnow.engines.base import draws_beside
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import Stopped
from winnow.experience.ahead import Ahead
from winnow.run_logs.run_files import read_samples
from winnow.training.checkpoint import load_state
from winnow.training.progress import IterationData, RunProgress
from winnow.types import Completion, Finish, Prompt, Sampling

ON_SUMS = ("algo=grpo", "optim.lr=1e-3", "eval.every=2")


class Elsewhere:
    """The torch engine on a copy of the model, as a server has one: it draws slowly, beside the trainer."""

    exact, separate = True, True

    def __init__(self, engine: TorchEngine) -> None:
        self.engine, self.version, self.drawn_with = engine, -1, []

    def sync(self, model, version: int) -> None:
        if version != self.version:
            self.engine.sync(copy.deepcopy(model), version)
            self.version = version

    def generate(self, *arguments):
        before = self.version
        time.sleep(0.05)
        found = self.engine.generate(*arguments)
        assert self.version == before  # nobody has brought other weights in the meantime
        self.drawn_with.append(before)
        return found


def last_weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_state(sorted((directory / "checkpoints").iterdir())[-1] / "state.ckpt")["state_dict"]


def test_samples_are_of_the_policy_so_many_iterations_ago(tmp_path: Path):
    """Up to the first update that changes it, the policy is one; a later one differs from that which drew."""
    run(tmp_path / "now", "iterations=4", "optim.lr=1e-3")
    run(tmp_path / "ahead", "iterations=4", "optim.lr=1e-3", "rollout.staleness=2")
    now, ahead = (
        [[sample.response for sample in read_samples(file)] for file in sorted((tmp_path / name / "samples").iterdir())]
        for name in ("now", "ahead")
    )
    assert ahead[0] == now[0]
    assert ahead[3] != now[3]
    rows = metrics(tmp_path / "ahead")
    assert all(row["rollout/mismatch_kl"] < 1e-5 for row in rows[1:])  # of the sampler to the policy that drew
    assert "rollout/staleness_kl" not in rows[1]
    assert rows[4]["rollout/staleness_kl"] > 1e-4


def test_no_staleness_is_what_it_was(tmp_path: Path):
    run(tmp_path / "default", "iterations=2")
    run(tmp_path / "zero", "iterations=2", "rollout.staleness=0")
    assert weights(tmp_path / "default") == weights(tmp_path / "zero")
    assert metrics(tmp_path / "default") == metrics(tmp_path / "zero")


@pytest.mark.parametrize("words", [("algo=grpo", "algo/correction=truncated"), ("algo=ppo",), ("algo=dpo",)])
def test_a_resume_has_the_samples_that_were_drawn_ahead(tmp_path: Path, words: tuple[str, ...]):
    words = (*words, "optim.lr=1e-3", "rollout.staleness=2", "checkpoint.every=3")
    train_on_sums(tmp_path / "whole", *words, "iterations=6")
    train_on_sums(tmp_path / "parts", *words, "iterations=3")
    train_on_sums(tmp_path / "parts", *words, "iterations=6", f"resume={tmp_path / 'parts'}")
    whole, parts = last_weights(tmp_path / "whole"), last_weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_drawn_beside_the_updates_they_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train_on_sums(tmp_path / "before", *ON_SUMS, "iterations=5", "rollout.staleness=1")
    engines = []
    build = common.engine_of

    def elsewhere(*arguments) -> Elsewhere:
        engines.append(Elsewhere(build(*arguments)))
        return engines[-1]

    monkeypatch.setattr(assemble.common, "engine_of", elsewhere)
    train_on_sums(tmp_path / "beside", *ON_SUMS, "iterations=5", "rollout.staleness=1")
    before, beside = last_weights(tmp_path / "before"), last_weights(tmp_path / "beside")
    assert draws_beside(engines[0])
    # By each policy from 0 to 4 a few to be checked and then the next iteration's; by the first also its own.
    assert sorted({*engines[0].drawn_with}) == [0, 1, 2, 3, 4, 5]
    figures = [
        [row.get("rollout/mismatch_kl") for row in metrics(tmp_path / name)[1:]] for name in ("before", "beside")
    ]
    assert all(figure is not None and figure < 1e-20 for one in figures for figure in one)
    assert all(torch.equal(before[name], beside[name]) for name in before)


class Scripted:
    """An engine that samples elsewhere, one token a response; the signals in `ends` come while it draws these calls."""

    exact, separate, version = True, True, 0

    def __init__(self, *ends: int) -> None:
        self.ends, self.calls = ends, 0

    def sync(self, model, version: int) -> None:
        self.version = version

    def generate(self, prompts, seeds, sampling):
        self.calls += 1
        if self.calls in self.ends:
            raise Stopped(75)
        return [[Completion((seed,), torch.zeros(1), torch.zeros(1), Finish.EOS) for seed in group] for group in seeds]


def ahead(engine: Scripted) -> Ahead:
    prompt = Prompt("a", (1,), "a", "")
    return Ahead(engine, 1, Sampling(1.0, 1), lambda i: ([prompt], [[i]]), lambda *_: {})  # pyright: ignore


def iterations(state: dict) -> list[int]:
    return sorted(map(int, state))


def test_an_iteration_that_is_left_still_has_its_samples():
    """A checkpoint before iteration 1 holds them although they were taken; one before iteration 2 does not."""
    drawing = ahead(Scripted())
    drawing.take(0)
    taken = drawing.take(1)
    assert iterations(drawing.state(1)) == [1, 2]
    assert iterations(drawing.state(2)) == [2]
    again = ahead(Scripted())
    again.restore(drawing.state(1))
    assert again.take(1).completions[0][0].token_ids == taken.completions[0][0].token_ids


def test_a_signal_while_samples_are_drawn_beside_an_update_costs_these_alone():
    """The fourth call draws iteration 1's samples: those of iteration 0, and a few to check, twice, come before."""
    drawing = ahead(Scripted(4))
    drawing.take(0)
    assert iterations(drawing.state(0)) == [0]
    assert iterations(drawing.state(1)) == []


def test_a_checkpoint_with_samples_is_that_of_its_iteration(tmp_path: Path):
    """So that an export finds its way in it."""
    train_on_sums(tmp_path / "run", *ON_SUMS, "iterations=2", "rollout.staleness=1")
    state = load_state(tmp_path / "run" / "checkpoints" / "iteration_000002" / "state.ckpt")
    assert "ahead" in state[IterationData.__qualname__]
    assert RunProgress.of(state[IterationData.__qualname__]).iteration == 2
