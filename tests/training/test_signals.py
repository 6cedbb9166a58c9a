"""A signal ends a run with the state after its last iteration saved, and with its exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from winnow.training.checkpoint import newest_valid

ROOT = Path(__file__).parent.parent.parent
SMALL = ("logger=none", "hardware=cpu", "hardware.threads=1", "rollout.prompts=4", "rollout.samples=4")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 75),
        pytest.param(signal.SIGHUP, 75, marks=pytest.mark.faults),
        pytest.param(signal.SIGUSR1, 75, marks=pytest.mark.faults),
        (signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path: Path, number: signal.Signals, code: int):
    words = (*SMALL, "eval.prompts=2", "eval.every=0", "iterations=100000", f"hydra.run.dir={tmp_path / 'run'}")
    process = subprocess.Popen([sys.executable, ROOT / "train.py", *words], cwd=tmp_path, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) == code
    state = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    last = len(metrics.read_text().splitlines()) - 1
    assert state.parent.name == f"iteration_{last:06d}"


def test_a_signal_while_a_program_imports_ends_it_with_its_code():
    """Nobody catches an exception there, which would be a traceback and code 1."""
    script = "import os, signal; from winnow import signals; signals.install(); os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.startswith("SIGINT")


@pytest.mark.parametrize("by", ["TORCHELASTIC_RUN_ID", "SUBMITIT_EXECUTOR"])
def test_a_signal_that_is_passed_on_is_no_second_one(by: str):
    """SLURM signals every process of a job, and torchrun and submitit pass on their own besides."""
    script = """
import os, signal
from winnow import signals
signals.install()
with signals.deferred():
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert signals.received() is signal.SIGUSR2
    signals._state.since -= signals.ECHO_SECONDS
    os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {by: "x"}, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (143, b"")


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path):
    """While the first signal is only noted, the second ends the process with code 128 + 15."""
    script = """
import os, signal
from winnow import signals
signals.install()
with signals.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False, capture_output=True)
    assert done.returncode == 143
