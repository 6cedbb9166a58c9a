"""Sweep of real runs, some of which fail: the others finish, the report names the failures, and the exit code is 1."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from running import SMALL

ROOT = Path(__file__).parents[2]


def test_a_failing_job_is_named_and_the_others_finish(tmp_path: Path):
    top = tmp_path / "sweep"
    # The sampler and the policy round differently, by about 1e-13 nats a token.
    bounds = "rollout.max_mismatch_kl=1e-5,1e-30"
    words = ["-m", *SMALL, "iterations=2", "arm=raft", "seed=0,1", bounds, f"hydra.sweep.dir={top}"]
    sweep = subprocess.run(
        [sys.executable, ROOT / "train.py", *words, "hydra.launcher.jobs=2"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert (sweep.returncode, sweep.stderr) == (1, "")
    with (top / "summary.csv").open(newline="") as file:
        ended = {(row["seed"], "e-30" in row["overrides"]): row["status"] for row in csv.DictReader(file)}
    assert ended == {("0", False): "done", ("1", False): "done", ("0", True): "diverged", ("1", True): "diverged"}
    page = (top / "report.html").read_text()
    assert "rollout.max_mismatch_kl=1e-30" in page
    assert "nats a token from the policy" in page, "the reason, as the job gave it"
    assert sweep.stdout.count("failed: ") == 2
    assert sweep.stdout.rstrip().endswith(str(top / "report.html"))
    assert (top / "figures/final_accuracy.png").is_file()
