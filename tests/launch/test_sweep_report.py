"""Sweep of real runs, one of which fails: the other finishes, the report names the failure, and the exit code is 1."""

import csv
import sys
from pathlib import Path

import pytest

from running import SMALL, program

ROOT = Path(__file__).parents[2]


def test_a_failing_job_is_named_and_the_other_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """The sweep is in this process, which has imported everything; its jobs are processes of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py")])
    top = tmp_path / "sweep"
    # The sampler and the policy round differently, by about 1e-13 nats a token.
    bounds = "rollout.max_mismatch_kl=1e-5,1e-30"
    words = ["-m", *SMALL, "iterations=1", "arm=raft", "seed=0", bounds, f"hydra.sweep.dir={top}"]
    assert program("train").exit_code([*words, "hydra.launcher.jobs=2", "hydra.launcher.threads=1"]) == 1
    said = capfd.readouterr()
    assert [line for line in said.err.splitlines() if "is still being imported" not in line] == []
    with (top / "summary.csv").open(newline="") as file:
        ended = {"e-30" in row["overrides"]: row["status"] for row in csv.DictReader(file)}
    assert ended == {False: "done", True: "diverged"}
    page = (top / "report.html").read_text()
    assert "rollout.max_mismatch_kl=1e-30" in page
    assert "nats a token from the policy" in page, "the reason, as the job gave it"
    assert said.out.count("failed: ") == 1
    assert said.out.rstrip().endswith(str(top / "report.html"))
    assert (top / "figures/curves.png").is_file()
