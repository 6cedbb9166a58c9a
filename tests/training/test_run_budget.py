"""Runs that their budget ends: evaluated, saved, exported, and ready to be resumed."""

import json
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import pytest

from running import composed, metrics, run, weights
from winnow.assemble.start_lines import budget_in_words
from winnow.training.progress import RunBudget, RunProgress

QUIET = ("algo=grpo", "eval.every=0")


def totals(directory: Path) -> list[int]:
    """Response tokens sampled up to each iteration, counted in the sample files."""
    files = sorted((directory / "samples").iterdir())
    return list(accumulate(sum(json.loads(line)["length"] for line in open(file)) for file in files))


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def test_a_budget_is_reached_when_any_limit_is():
    done = RunProgress(iteration=3, sampled_tokens=100, trained_tokens=60, seconds=7.5)
    assert not RunBudget().reached(done)
    assert not RunBudget(sampled_tokens=101, trained_tokens=61, seconds=7.6).reached(done)
    assert RunBudget(sampled_tokens=100).reached(done)
    assert RunBudget(sampled_tokens=101, trained_tokens=60).reached(done)
    assert RunBudget(seconds=7.5).reached(done)


def test_a_run_ends_after_the_iteration_that_reaches_its_budget_and_a_larger_budget_continues_it(tmp_path: Path):
    run(tmp_path / "whole", *QUIET, "iterations=4")
    second = totals(tmp_path / "whole")[1]
    part = tmp_path / "part"
    accuracy = run(part, *QUIET, "iterations=4", f"budget.sampled_tokens={second}")
    rows = metrics(part)
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert rows[2]["train/sampled_tokens_total"] == second
    assert rows[2]["eval/arithmetic/acc"] == accuracy == summary(part)["eval_last"]
    assert summary(part)["status"] == "done"
    assert [folder.name for folder in (part / "checkpoints").iterdir()] == ["iteration_000002"]

    stopped = weights(part)
    assert run(part, *QUIET, "iterations=4", f"budget.sampled_tokens={second}", f"resume={part}") == accuracy
    assert (metrics(part), weights(part), summary(part)["status"]) == (rows, stopped, "done")

    run(part, *QUIET, "iterations=4", f"budget.sampled_tokens={second + 1}", f"resume={part}")
    assert [row["iteration"] for row in metrics(part)] == [0, 1, 2, 3]
    run(part, *QUIET, "iterations=4", f"resume={part}")
    assert weights(part) == weights(tmp_path / "whole") != stopped
    assert metrics(part)[4] == metrics(tmp_path / "whole")[4]


def test_trained_tokens_of_demonstrations(tmp_path: Path):
    """There are six demonstrations per iteration, so that their mean length gives the tokens of each iteration."""
    run(tmp_path / "whole", "algo=sft", "iterations=3")
    lengths = [round(6 * row["rollout/length/mean"]) for row in metrics(tmp_path / "whole")[1:]]
    run(tmp_path / "part", "algo=sft", "iterations=3", f"budget.trained_tokens={lengths[0] + 1}")
    last = metrics(tmp_path / "part")[-1]
    assert (last["iteration"], last["train/tokens_trained_total"]) == (2, lengths[0] + lengths[1])


def test_seconds_are_those_of_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The test's clock advances by 10 s whenever it is read: at the start, after the first evaluation, and in every
    iteration before its evaluation and at its end. So the budget is checked at 20 s in iteration 1, which ends at 30 s,
    and at 60 s in iteration 3."""
    ticks = iter(range(0, 10**6, 10))
    monkeypatch.setattr("winnow.training.callbacks.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    budget = ("iterations=9", "budget.seconds=55")
    run(tmp_path, *QUIET, *budget)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["time/total"] for row in rows] == [10, 30, 50, 70]
    assert summary(tmp_path)["seconds"] == 70
    # The resumed run starts its clock again: its first check is at 70 s + 10 s, with no evaluation before it.
    run(tmp_path, *QUIET, "iterations=9", "budget.seconds=81", f"resume={tmp_path}")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["time/total"] for row in rows] == [10, 30, 50, 70, 90, 110]


def test_the_budget_is_printed_in_words():
    assert budget_in_words(composed()) == []
    words = ("budget.sampled_tokens=1000000", "budget.seconds=600", "iterations=50")
    assert budget_in_words(composed(*words)) == [
        "until 1,000,000 sampled tokens or 600 s are spent, at most 50 iterations"
    ]
