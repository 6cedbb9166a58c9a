"""Runs that SIGKILL hits at random moments, and that are resumed: in the end they are those that nobody killed.

WINNOW_KILLS=100 makes as many kills, spread over the algorithms; without it there is one for each.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from faults.test_every_resume import tensors
from running import CONF, SMALL, metrics, weights

ALGORITHMS = ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft")
KILLS = int(os.environ.get("WINNOW_KILLS", len(ALGORITHMS)))
ITERATIONS = 4
WORDS = (*SMALL, f"iterations={ITERATIONS}", "checkpoint.every=1", "hardware.threads=1")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LIMIT = 120.0


class Runs:
    """Starts of train.py by the fork server; `seconds` is the time that the last one took."""

    def __init__(self) -> None:
        server = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
        self.server = subprocess.Popen(
            server, cwd=CONF.parent, env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.seconds = 0.0
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def start(self, log: Path, *words: str, kill_after: float | None = None) -> int:
        """Run train.py to its end, or until it is killed after so many seconds; its exit code."""
        assert self.server.stdin is not None
        began = time.monotonic()
        self.server.stdin.write(json.dumps([str(log), *words]) + "\n")
        self.server.stdin.flush()
        pid = int(self._answer())
        if kill_after is not None:
            _wait(kill_after, pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = int(self._answer())
        self.seconds = time.monotonic() - began
        return code

    def close(self) -> None:
        self.server.communicate(timeout=LIMIT)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait(seconds: float, pid: int) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and _runs(pid):
        time.sleep(min(0.01, max(0.0, end - time.monotonic())))


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    made = Runs()
    yield made
    made.close()


@pytest.mark.faults
@pytest.mark.parametrize("number", range(len(ALGORITHMS)), ids=ALGORITHMS)
def test_a_killed_run_ends_as_the_one_that_nobody_killed(tmp_path: Path, runs: Runs, number: int):
    algo = ALGORITHMS[number]
    kills = KILLS // len(ALGORITHMS) + (number < KILLS % len(ALGORITHMS))
    words = (*WORDS, f"algo={algo}")
    whole = tmp_path / "whole"
    command = [sys.executable, "train.py", *words, f"hydra.run.dir={whole}"]
    subprocess.run(command, cwd=CONF.parent, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    # Forked processes are compared with a process that imports everything itself, and give the time that a run takes.
    assert runs.start(tmp_path / "log", *words, f"hydra.run.dir={tmp_path / 'forked'}") == 0
    assert_equal(tmp_path / "forked", whole)
    longest = runs.seconds
    moments = random.Random(f"{algo} {KILLS}")
    done, tries = 0, 0
    while done < kills:
        tries += 1
        assert tries < 3 * kills + 10
        run, log, code = tmp_path / f"run_{tries}", tmp_path / f"log_{tries}", -signal.SIGKILL
        for _ in range(moments.choice([1, 1, 2])):  # in one case of three, the resume is killed too
            moment = moments.random() * longest
            code = runs.start(log, *words_for(run, words), kill_after=moment)
            assert code in (0, -signal.SIGKILL), log.read_text()
            if code == 0:
                longest = runs.seconds  # it had ended before
                break
            done += 1
            saved = sorted(path.name for path in (run / "checkpoints").glob("iteration_*"))
            print(f"{algo}: killed after {moment:.2f} s of {longest:.2f} s with {saved[-1:] or 'nothing'} saved")
        if code != 0:
            assert runs.start(log, *words_for(run, words)) == 0, log.read_text()
        assert_equal(run, whole)


def words_for(run: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    """The words that resume the run, or begin it where it was killed before its configuration was written."""
    return (f"resume={run}",) if (run / ".hydra" / "overrides.yaml").exists() else (*words, f"hydra.run.dir={run}")


def assert_equal(run: Path, whole: Path) -> None:
    """The same rows without times, samples, evaluations, weights and optimiser state, and no file more or less."""
    assert metrics(run) == metrics(whole)
    assert weights(run) == weights(whole)
    for path in (whole / "evaluations.jsonl", *(whole / "samples").iterdir()):
        assert (run / path.relative_to(whole)).read_bytes() == path.read_bytes()
    ours, theirs = tensors(run, ITERATIONS), tensors(whole, ITERATIONS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert files(run) == files(whole)


def files(directory: Path) -> set[str]:
    paths = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {str(path) for path in paths if not str(path).startswith(".hydra/until")}
