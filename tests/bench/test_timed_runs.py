"""Timed iterations of real runs of a model with a few thousand parameters."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.matmul import Bounds, update_work
from benchmarks.runs import Iteration, measure, timed
from benchmarks.workload import Shape, Work

SMALL = Shape(hidden=16, layers=1, heads=2, kv_heads=1, vocab=40, positions=64)


def work(patterns: tuple[str, ...]) -> Work:
    return Work(
        SMALL, prompts=2, samples=4, max_tokens=6, prompt_tokens=4, iterations=3, forced=True, patterns=patterns
    )


def run(tmp_path: Path, algo: str, patterns: tuple[str, ...]) -> list[Iteration]:
    return measure([*work(patterns).words(tmp_path), f"algo={algo}"], tmp_path / "run", warm_up=1)


def test_every_row_of_a_forced_grpo_step_has_full_length_and_is_trained_on(tmp_path: Path):
    iterations = run(tmp_path, "grpo", ("10",))
    assert len(iterations) == 2
    for found in iterations:
        assert [row.tokens for row in found.rows] == [6] * 8
        assert len(found.trained) == 8
        assert all(2 <= row.prompt_tokens <= 6 for row in found.rows)
        assert found.completion_tokens == 48
        assert update_work(found.trained).responses == 48
        assert 0 < found.update.cpu < found.step.cpu
        assert 0 < found.rollout.cpu < found.step.cpu
        assert found.rollout.wall + found.update.wall <= found.step.wall


def test_a_forced_sample_may_hold_the_token_that_would_end_it(tmp_path: Path):
    """Of eight tokens one is the EOS: the update check, which expects it at an end alone, does not look for it."""
    small = replace(work(("10",)), model=replace(SMALL, vocab=8))
    iterations = measure([*small.words(tmp_path), "algo=grpo"], tmp_path / "run", warm_up=1)
    assert [row.tokens for found in iterations for row in found.rows] == [6] * 16


@pytest.mark.parametrize(
    ("algo", "patterns", "kept"), [("raftpp", ("1000",), 2), ("reinforce_rej", ("1100", "1111"), 4)]
)
def test_the_scripted_rows_are_kept(tmp_path: Path, algo: str, patterns: tuple[str, ...], kept: int):
    assert [len(found.trained) for found in run(tmp_path, algo, patterns)] == [kept, kept]


def test_a_child_process_returns_the_iterations_and_what_was_observed():
    found = timed(work(("10",)), ["algo=grpo"], 1, Bounds)
    assert [len(each.iteration.trained) for each in found] == [8, 8]
    assert [each.observed["update_tokens"] - 48 for each in found] == [
        sum({row.prompt: row.prompt_tokens for row in each.iteration.rows}.values()) for each in found
    ]


def test_a_run_that_fails_shows_its_output():
    with pytest.raises(RuntimeError, match="algo=no_such"):
        timed(work(("10",)), ["algo=no_such"], 1)


def test_no_update_without_kept_rows(tmp_path: Path):
    for found in run(tmp_path, "raftpp", ("0",)):
        assert found.trained == []
        assert found.update.cpu == 0
        assert found.rollout.cpu > 0
