"""The figures that docs/smollm.py writes into its page, against counts that a person can divide."""

import sys
from pathlib import Path

import pytest

from running import CONF
from winnow.run_logs.run_files import EvaluationCounts, RunFiles


@pytest.fixture
def smollm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(CONF.parent / "docs")
    import smollm  # pyright: ignore[reportMissingImports]

    yield smollm
    sys.modules.pop("smollm")


def write_run(directory: Path, first: tuple[int, ...], last: tuple[int, ...], samples: int) -> None:
    directory.mkdir(parents=True)
    files = RunFiles(directory)
    for iteration, correct in ((0, first), (1, last)):
        files.append_evaluations([EvaluationCounts(iteration, "lists", samples, "same", correct)])
        files.append({"iteration": iteration, "time/total": 60.0 * iteration, "rollout/answer_found_frac": 0.97})


def test_a_seeds_row(smollm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_run(smollm.WARM_START / "seed_0", (0, 0, 0, 0), (4, 2, 0, 1), 4)
    write_run(smollm.AFTER / "raftpp" / "seed_0", (2, 1, 0, 0), (2, 2, 1, 1), 2)
    write_run(smollm.AFTER / "more_demonstrations" / "seed_0", (2, 1, 0, 0), (2, 1, 1, 0), 2)
    row = smollm.seed_row("seed_0")
    assert [cell.split(" (")[0] for cell in row] == [
        "0",
        "0.0 %",
        "37.5 %",
        "97 %",
        "75.0 %",
        "50.0 %",
        "+37.5",
        "+25.0",
    ]
    monkeypatch.setattr(smollm, "PICTURE", tmp_path / "curve.png")
    smollm.draw(["seed_0"])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_answer_cannot_break_its_table(smollm):
    row = {"response": "\\boxed{a,\n b}`| c", "verdict": "wrong"}
    assert smollm.shown(row).count("\n") == 0
    assert smollm.shown(row).count("`") == 2
