"""Two processes of one run, of which one is killed or signalled: both end, and the run can be continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.process import descendants
from running import CONF, SMALL
from winnow.training.checkpoint import newest_valid

LIMIT = 60.0


@pytest.mark.faults
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("number", "codes"), [(signal.SIGKILL, {1, -9}), (signal.SIGTERM, {75}), (signal.SIGINT, {130})]
)
def test_one_rank_takes_the_other_along(tmp_path: Path, rank: int, number: signal.Signals, codes: set[int]):
    words = ("iterations=1000", "hardware.devices=2", "hardware.strategy=ddp", "checkpoint.every=2")
    command = [sys.executable, "train.py", *SMALL, *words, f"hydra.run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, cwd=CONF.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    rows = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: run.poll() is not None or (rows.exists() and rows.read_bytes().count(b"\n") > 4), 200)
    assert run.poll() is None
    ranks = {rank_of(pid): pid for pid in [run.pid, *descendants(run.pid)] if is_ours(pid)}
    os.kill(ranks[rank], number)
    run.communicate(timeout=LIMIT)
    assert run.returncode in codes
    wait_until(lambda: not any(is_ours(pid) for pid in ranks.values()), LIMIT)
    checkpoint = newest_valid(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    if number is not signal.SIGKILL:
        assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] in ("preempted", "interrupted")


def is_ours(pid: int) -> bool:
    """Whether this is a living process of train.py; a zombie has an empty command line."""
    try:
        return b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def rank_of(pid: int) -> int:
    """LOCAL_RANK of a process; the first has none, because it starts the other."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((int(v.split(b"=")[1]) for v in variables if v.startswith(b"LOCAL_RANK=")), 0)


def wait_until(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
