"""A real run of a model of a few thousand parameters, timed."""

from pathlib import Path

import pytest

from benchmarks import linears
from benchmarks.iteration import Iteration, measure
from benchmarks.workload import Shape, Work

SMALL = Shape(hidden=16, layers=1, heads=2, kv_heads=1, vocab=40, positions=64)


def run(tmp_path: Path, algo: str, patterns: tuple[str, ...]) -> list[Iteration]:
    work = Work(
        SMALL, prompts=2, samples=4, max_tokens=6, prompt_tokens=4, iterations=3, forced=True, patterns=patterns
    )
    return measure([*work.words(tmp_path), f"algo={algo}"], tmp_path / "run", warm_up=1)


def test_every_row_of_a_forced_grpo_step_runs_to_its_end_and_is_trained_on(tmp_path: Path):
    iterations = run(tmp_path, "grpo", ("10",))
    assert len(iterations) == 2
    for found in iterations:
        assert [row.tokens for row in found.rows] == [6] * 8
        assert len(found.trained) == 8
        assert all(2 <= row.prompt_tokens <= 6 for row in found.rows)
        assert found.completion_tokens == 48
        assert linears.update_work(found.trained).responses == 48
        assert 0 < found.update.cpu < found.step.cpu
        assert 0 < found.rollout.cpu < found.step.cpu
        assert found.rollout.wall + found.update.wall <= found.step.wall


@pytest.mark.parametrize(
    ("algo", "patterns", "kept"), [("raftpp", ("1000",), 2), ("reinforce_rej", ("1100", "1111"), 4)]
)
def test_what_was_dictated_is_kept(tmp_path: Path, algo: str, patterns: tuple[str, ...], kept: int):
    assert [len(found.trained) for found in run(tmp_path, algo, patterns)] == [kept, kept]


def test_where_nothing_is_kept_there_is_no_update(tmp_path: Path):
    for found in run(tmp_path, "raftpp", ("0",)):
        assert found.trained == []
        assert found.update.cpu == 0
        assert found.rollout.cpu > 0
