"""A sweep whose jobs have two ranks each: one that fails takes no other along, and a signal leaves nothing behind."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.process import descendants
from faults.test_two_ranks import wait_until
from running import CONF, SMALL

WORDS = ("seed=1,2", "hardware=fsdp", "hardware.accelerator=cpu", "hardware.devices=2", "hardware.timeout=20")


@pytest.mark.faults
def test_each_job_has_its_own_ranks(tmp_path: Path):
    top = tmp_path / "sweep"
    small = (word for word in SMALL if word != "hardware=cpu")
    last = ("iterations=100000", "checkpoint.every=1", "hydra.launcher.jobs=2", f"hydra.sweep.dir={top}")
    command = [sys.executable, "train.py", "-m", *small, *WORDS, *last]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        sweep = subprocess.Popen(command, cwd=CONF.parent, env=environment, stdout=log, stderr=subprocess.STDOUT)
    said = lambda: "".join(path.read_text() for path in (tmp_path / "log", *top.glob("*/output.log")))[-4000:]  # noqa: E731
    files = [top / f"{job}/metrics.jsonl" for job in (0, 1)]
    wait_until(lambda: sweep.poll() is not None or all(rows(file) > 1 for file in files), 300)
    assert sweep.poll() is None, said()
    ranks = [ranks_of(sweep.pid, top / str(job)) for job in (0, 1)]
    assert [len(pids) for pids in ranks] == [2, 2], said()
    os.kill(ranks[0][-1], signal.SIGKILL)
    wait_until(lambda: status(top, 0) not in ("waiting", None), 60)
    done = rows(files[1])
    wait_until(lambda: rows(files[1]) > done + 1, 60)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait(timeout=90) == 75, said()
    assert (status(top, 0), status(top, 1)) == ("failed", "stopped"), said()
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pids in ranks for pid in pids), 30)


def rows(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def ranks_of(pid: int, directory: Path) -> list[int]:
    """The processes of the job in `directory`, its first rank first: only that one and its ranks are train.py."""
    found = []
    for each in sorted(descendants(pid)):
        words = Path(f"/proc/{each}/cmdline").read_bytes()
        if b"train.py" in words and str(directory).encode() in words:
            found.append(each)
    return found


def status(top: Path, job: int) -> str | None:
    with (top / "summary.csv").open(newline="") as file:
        return next((row["status"] for row in csv.DictReader(file) if row["job"] == str(job)), None)
