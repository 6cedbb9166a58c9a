"""Full disks under an evaluation, under a sweep and under W&B: what is kept, and that going on gives the whole."""

import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from faults.disks import Disk, mounted
from faults.forked_run import run_with
from running import CONF, SMALL, metrics

pytestmark = pytest.mark.faults

ALWAYS = [("winnow.launch.program:Program.exit_code", 99)]
EVALUATION = ("limit=12", "batch=4", "eval.samples=2", "hardware=cpu", "hardware.threads=1")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path) as disk:
        yield disk


def test_an_evaluation_keeps_its_complete_batches(disk: Disk, tmp_path: Path):
    whole, directory = tmp_path / "whole", disk.place / "evaluation"
    assert run_with(whole, EVALUATION, ALWAYS, lambda: None, name="evaluate").code == 0
    second = [("winnow.evaluation.storage:SampleStore.write", 2)]
    ended = run_with(directory, EVALUATION, second, lambda: disk.harm("full"), disk.place, name="evaluate")
    assert ended.code == 74, ended.output
    assert "Traceback" not in ended.output
    assert len([*(directory / "samples").rglob("batch_*.parquet")]) == 1
    disk.mend("full")
    again = run_with(directory, [f"resume={directory}"], ALWAYS, lambda: None, disk.place, name="evaluate")
    assert again.code == 0, again.output
    tables = [parquet.read_table(place / "samples" / "arithmetic.parquet") for place in (whole, directory)]
    assert tables[0].drop_columns(["seconds"]) == tables[1].drop_columns(["seconds"])


def test_a_sweep_goes_on_with_the_jobs_that_are_not_done(disk: Disk, tmp_path: Path):
    top = disk.place / "sweep"
    words = [*SMALL, "iterations=30", "eval.every=0", "seed=0,1", f"hydra.sweep.dir={top}", "hydra.launcher.jobs=1"]
    command = [sys.executable, str(CONF.parent / "train.py"), "-m", *words]
    with (tmp_path / "output").open("w") as output:
        sweep = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path)
        while not (top / "1" / "metrics.jsonl").exists() and sweep.poll() is None:
            time.sleep(0.05)
        disk.harm("full")
        code = sweep.wait()
    printed = (tmp_path / "output").read_text()
    assert code == 74, printed
    assert "Traceback" not in printed
    disk.mend("full")
    first = (top / "0" / "metrics.jsonl").read_bytes()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert (top / "0" / "metrics.jsonl").read_bytes() == first
    rows = list(csv.DictReader((top / "summary.csv").open()))
    assert [(row["status"], row["exit_code"]) for row in rows] == [("done", "0")] * 2


def test_wandb_on_a_full_disk_is_given_up_and_the_run_goes_on(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Only W&B's own directory is on the disk that fills up."""
    monkeypatch.setenv("WANDB_DIR", str(disk.place / "wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = [word for word in SMALL if not word.startswith("logger=")]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert run_with(whole, [*words, "logger=none", "iterations=6"], ALWAYS, lambda: None).code == 0
    calls = [("winnow.experience.collect:Collector.collect", 2)]
    ended = run_with(run, [*words, "logger=wandb", "iterations=6"], calls, lambda: disk.harm("full"))
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert sum("W&B is off (" in line for line in ended.output.splitlines()) == 1, ended.output
    assert metrics(run) == metrics(whole)
