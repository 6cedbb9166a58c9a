"""`objective.md`: what a run minimises, as it stands in its directory, in reports and at its tracker."""

from pathlib import Path

from running import run
from winnow.run_logs.objective_file import LONGEST, OBJECTIVE, Objective, read_objective, write_objective


def test_a_page_that_was_written_is_read_again(tmp_path: Path):
    write_objective(tmp_path, "loss = A\nA    = 1\n\nwhere\n  A  advantage\n\ninert: A changes nothing")
    assert read_objective(tmp_path) == Objective(("loss = A", "A    = 1"), ("inert: A changes nothing",))


def test_a_page_that_is_missing_or_damaged_is_none(tmp_path: Path):
    assert read_objective(tmp_path) == Objective()
    for content in (b"\xff\xfe", b"", b"# Objective\n", b"```text\n```\n"):
        (tmp_path / OBJECTIVE).write_bytes(content)
        assert read_objective(tmp_path) == Objective()
    (tmp_path / OBJECTIVE).write_text("```text\n" + "x" * 10 * LONGEST)
    assert sum(map(len, read_objective(tmp_path).formula)) <= LONGEST


def test_a_run_leaves_its_objective(tmp_path: Path):
    run(tmp_path, "algo=raftpp", "iterations=1", "update.minibatches=1")
    found = read_objective(tmp_path)
    assert found.formula[0] == "loss = −1/|D| Σ_{a∈D} 1/|a| Σ_t min(s_t, clip(s_t, 0.8, 1.2))"
    assert found.notes[0] == (
        "inert: one update per iteration: the ratio is always 1, so algo/ratio and algo/clip change nothing"
    )
