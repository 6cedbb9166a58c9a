"""Every way in which a run is ended from outside: its code, its status, and that nothing is lost.

The table of `docs/endings.md` is what is checked here: a row of it for each moment.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.disks import Disk, mounted
from faults.forked_run import Calls, run_with
from running import CONF, SMALL, metrics

pytestmark = pytest.mark.faults

PAGE = CONF.parent / "docs" / "endings.md"
WORDS = (*SMALL, "hardware.threads=1", "iterations=4", "rollout.max_tokens=24")
COLLECT, STEP = "winnow.experience.collect:Collector.collect", "winnow.engines.torch_engine:Generation._step"
EVALUATE, SUMMARY = (
    "winnow.evaluation.sets:HeldOutEvaluator.evaluate",
    "winnow.run_logs.run_files:RunFiles.write_summary",
)
MOMENTS: dict[str, Calls] = {
    "loading": [("winnow.assemble.common:load_model", 1)],
    "first evaluation": [(EVALUATE, 1), (STEP, 2)],
    "sampling": [(COLLECT, 3), (STEP, 3)],
    "verifying": [(COLLECT, 3), ("winnow.experience.collect:AsyncJudging.groups", 1)],
    "scoring": [(COLLECT, 3), ("winnow.experience.scoring:score_sequences", 1)],
    "updates": [(COLLECT, 3), ("winnow.training.modules:PolicyGradientModule.training_step", 1)],
    "evaluation": [(EVALUATE, 2), (STEP, 2)],
    "saving": [("winnow.training.checkpoint:write_checkpoint", 1)],
    "last evaluation": [(EVALUATE, 3), (STEP, 2)],
    "curves": [("winnow.training.run:draw_run", 1)],
    "export": [("winnow.training.run:export_model", 1)],
    "summary": [(SUMMARY, 2)],
}
DISK: dict[str, tuple[str, Calls]] = {
    "full before the run": ("full", []),
    "no room for samples": ("refused", [("winnow.run_logs.run_files:RunFiles.write_samples", 2)]),
    "full, samples": ("full", [("winnow.run_logs.run_files:RunFiles.write_samples", 3)]),
    "full, metrics": ("full", [("winnow.run_logs.run_files:RunFiles.append", 3)]),
    "full, evaluations": ("full", [("winnow.run_logs.run_files:RunFiles.append_evaluations", 2)]),
    "full, checkpoint": ("full", [("winnow.training.checkpoint:IterationCheckpoint.save", 1)]),
    "full, second checkpoint": ("full", [("winnow.training.checkpoint:IterationCheckpoint.save", 2)]),
    "full, export": ("full", [("winnow.training.run:export_model", 1)]),
    "no inodes, checkpoint": ("inodes", [("winnow.training.checkpoint:IterationCheckpoint.save", 2)]),
    "read-only before the run": ("read-only", []),
    "read-only, sampling": ("read-only", [(COLLECT, 3)]),
    "read-only, checkpoint": ("read-only", [("winnow.training.checkpoint:IterationCheckpoint.save", 2)]),
    "read-only, export": ("read-only", [("winnow.training.run:export_model", 1)]),
}


RANKS = {
    "one gets a signal",
    "one is killed",
    "one hangs",
    "one does not start within `hardware.timeout`",
    "the first is killed, or hangs",
    "full disk under one",
}
"""Rows that tests/faults/test_ranks.py brings about."""


def rows_of_the_page() -> dict[str, tuple[str, str]]:
    """Exit code and status by the first column of the page's tables."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 5 and re.fullmatch(r"[0-9 /]+", row[1])}


def test_the_page_has_a_row_for_every_moment():
    assert set(rows_of_the_page()) == MOMENTS.keys() | DISK.keys() | RANKS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("endings") / "whole"
    ended = run_with(directory, WORDS, [(SUMMARY, 99)], lambda: None)
    assert ended.code == 0, ended.output
    return directory


def status(directory: Path) -> str | None:
    path = directory / "summary.json"
    return json.loads(path.read_text())["status"] if path.exists() else None


def assert_equal(directory: Path, whole: Path, without_samples: bool = False) -> None:
    """The run in `directory` is done and left what `whole` did."""
    assert status(directory) == "done"
    assert metrics(directory) == metrics(whole)
    assert [list(row) for row in metrics(directory)] == [list(row) for row in metrics(whole)]
    for name in ["export/model.safetensors", *(f"samples/iteration_{k:06}.jsonl" for k in range(1, 5))]:
        if not (without_samples and name.startswith("samples")):
            assert (directory / name).read_bytes() == (whole / name).read_bytes(), name
    assert not [path for path in directory.rglob("*") if path.name.startswith((".tmp", ".del")) or ".tmp" in path.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal(tmp_path: Path, whole: Path, moment: str, number: signal.Signals):
    codes, ends = rows_of_the_page()[moment]
    preempted, interrupted = (int(code) for code in (codes.split("/") if "/" in codes else (codes, codes)))
    directory = tmp_path / "run"
    ended = run_with(directory, WORDS, MOMENTS[moment], lambda: os.kill(os.getpid(), number))
    assert ended.code == (interrupted if number is signal.SIGINT else preempted), ended.output
    assert "Traceback" not in ended.output
    if ends == "no directory":
        assert not directory.exists()
        return
    assert status(directory) == ({"preempted": "interrupted"}.get(ends, ends) if number is signal.SIGINT else ends)
    again = run_with(directory, [*WORDS, f"resume={directory}"], [(SUMMARY, 99)], lambda: None)
    assert again.code == 0, again.output
    assert_equal(directory, whole)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path) as disk:
        yield disk


@pytest.mark.parametrize("moment", DISK)
def test_a_disk(disk: Disk, whole: Path, moment: str):
    code, ends = rows_of_the_page()[moment]
    (how, calls), directory = DISK[moment], disk.place / "run"
    if not calls:
        disk.harm(how)
    ended = run_with(directory, WORDS, calls or [(SUMMARY, 99)], lambda: disk.harm(how), disk.place)
    assert ended.code == int(code), ended.output
    assert "Traceback" not in ended.output
    lines = [line for line in ended.output.splitlines() if line.startswith(("disk:", "error:"))]
    assert len(lines) == (ended.code != 0), ended.output
    assert ended.output.count("no more samples") <= 1
    disk.mend(how)
    if ends == "no directory":
        assert not directory.exists()
        return
    assert status(directory) == ends
    again = run_with(directory, [*WORDS, f"resume={directory}"], [(SUMMARY, 99)], lambda: None, disk.place)
    assert again.code == 0, again.output
    assert_equal(directory, whole, without_samples="samples" in moment)


MOVED: dict[str, Calls] = {"sampling": [(COLLECT, 3)], "saving": MOMENTS["saving"], "export": MOMENTS["export"]}


@pytest.mark.parametrize("moment", MOVED)
def test_a_directory_that_is_moved(tmp_path: Path, whole: Path, moment: str):
    directory, moved = tmp_path / "run", tmp_path / "moved"
    ended = run_with(directory, WORDS, MOVED[moment], lambda: directory.rename(moved))
    assert ended.code == 74, ended.output
    assert "Traceback" not in ended.output
    again = run_with(moved, [*WORDS, f"resume={moved}"], [(SUMMARY, 99)], lambda: None)
    assert again.code == 0, again.output
    assert_equal(moved, whole)
