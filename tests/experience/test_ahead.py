"""Samples drawn ahead of their training: with the right policy, the same beside the updates and before them."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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

    def begin(self, *arguments):
        return in_thread(lambda: self.generate(*arguments))


def in_thread(work):
    """The function that waits for what another thread has begun."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result


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

    def begin(self, *arguments):
        return in_thread(lambda: self.generate(*arguments))


def ahead(engine: Scripted) -> Ahead:
    prompt = Prompt("a", (1,), "a", "")
    return Ahead(engine, 1, Sampling(1.0, 1), lambda i: ([prompt], [[i]]), lambda *_: {})  # pyright: ignore


RANKS = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/experience"]
import torch
torch.set_num_threads(1)
from small_gpt2 import train_on_sums
from test_ahead import ON_SUMS, Elsewhere
from winnow.assemble import common

out = Path(sys.argv[1])
words = (*ON_SUMS, "iterations=4", "rollout.staleness=1", "hardware.devices=2")
train_on_sums(out / "before", *words)
build = common.engine_of
common.engine_of = lambda *arguments: Elsewhere(build(*arguments))
train_on_sums(out / "beside", *words)
"""


def on_two_ranks(folder: Path, script: str) -> None:
    """Run a script in two processes that know each other; its argument is `folder`."""
    path = folder / "ranks.py"
    path.write_text(script.format(tests=str(Path(__file__).parents[1])))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", path, folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.faults
def test_ranks_draw_beside_their_updates_what_they_would_draw_before(tmp_path: Path):
    on_two_ranks(tmp_path, RANKS)
    before, beside = last_weights(tmp_path / "before"), last_weights(tmp_path / "beside")
    assert all(torch.equal(before[name], beside[name]) for name in before)
    keys = ("rollout/staleness_kl", "train/loss")
    figures = [[[row.get(key) for key in keys] for row in metrics(tmp_path / name)] for name in ("before", "beside")]
    assert figures[0] == figures[1]


SIGNAL = """
import json, signal, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/experience"]
import torch.distributed as dist
dist.init_process_group("gloo")
from test_ahead import Scripted, ahead, iterations
from winnow import signals
from winnow.types import Prompt

class Signalled(Scripted):
    def generate(self, *arguments):
        if self.calls + 1 in self.ends:
            signals.note(signal.SIGTERM)
        return super().generate(*arguments)

drawing = ahead(Signalled(*((4,) if dist.get_rank() == 1 else ())))
drawing.request = lambda i: ([Prompt(f"{{i}} {{n}}", (1,), "a", "") for n in range(3)], [[i]] * 3)
drawing.take(0)
kept = [iterations(drawing.state(0)), iterations(drawing.state(1)), str(signals.received())]
Path(sys.argv[1], f"rank_{{dist.get_rank()}}.json").write_text(json.dumps(kept))
"""


@pytest.mark.slow
def test_a_signal_to_one_rank_while_samples_are_drawn_keeps_the_ranks_in_step(tmp_path: Path):
    """The second rank's fourth call draws the samples of iteration 1, and the first rank has its own."""
    on_two_ranks(tmp_path, SIGNAL)
    kept = [json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2)]
    assert kept == [[[0], [], str(signal.SIGTERM)]] * 2


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
