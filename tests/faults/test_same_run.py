"""One command in several fresh processes: the same weights, whatever the number of threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from running import CONF, SMALL, metrics, weights


@pytest.mark.faults
@pytest.mark.parametrize("algo", ["grpo", "raftpp", "ppo", "dpo"])
def test_the_same_command_gives_the_same_run(tmp_path: Path, algo: str):
    for name, threads in (("first", 1), ("second", 1), ("two_threads", 2)):
        command = [
            sys.executable,
            "train.py",
            *SMALL,
            f"algo={algo}",
            "iterations=4",
            f"hydra.run.dir={tmp_path / name}",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, cwd=CONF.parent, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert weights(tmp_path / "first") == weights(tmp_path / "second") == weights(tmp_path / "two_threads")
    assert metrics(tmp_path / "first") == metrics(tmp_path / "second") == metrics(tmp_path / "two_threads")
