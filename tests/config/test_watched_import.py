"""Imports of a user's modules that end the program, crash it or hang: one line that names them, and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from winnow.config.watched_import import Left, watched_import

LIMITED = """
import sys
from winnow.config import watched_import
watched_import.SLOW_SECONDS, watched_import.MOST_SECONDS = 0.2, 1.0
from winnow.launch.programs import training
sys.argv[0] = "train.py"
sys.exit(training().exit_code(sys.argv[1:]))
"""


def refused(place: Path, module: str, key: str) -> subprocess.CompletedProcess[str]:
    """`train` with the reward, or the verifier's rule, of a module with this text."""
    (place / "mine.py").write_text(module + "\n\ndef f(*args, **columns):\n    return True\n")
    words = ["plugins=[mine]", "logger=none", *key.split()]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    command = [sys.executable, "-c", LIMITED, *words]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=100, check=False)


REWARD = "reward=function reward.functions=[mine:f]"
RULE = "reward/verifier=function reward.verifier.rule.function=mine:f"


@pytest.mark.parametrize(
    ("key", "where"), [(REWARD, "reward.functions: mine:f"), (RULE, "reward.verifier.rule.function=mine:f")]
)
def test_a_module_that_leaves_is_named(tmp_path: Path, key: str, where: str):
    done = refused(tmp_path, "import os\nos._exit(9)", key)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {where}: its import ended with os._exit(9)\n"
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


def test_a_module_that_hangs_is_left_with_its_stack(tmp_path: Path):
    done = refused(tmp_path, "import threading\nthreading.Event().wait()", REWARD)
    assert (done.returncode, done.stdout) == (2, "")
    first, *stack, last = done.stderr.splitlines()
    assert first == "reward.functions: mine:f: is still being imported, for which 1 s are given"
    assert any('mine.py", line 2 in <module>' in line for line in stack)
    assert last.startswith("error: reward.functions: mine:f: its import has not ended after 1 s; the stack above")
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


def test_a_module_that_crashes_is_shown_with_its_line(tmp_path: Path):
    done = refused(tmp_path, "import os\nos.abort()", REWARD)
    assert done.returncode < 0
    assert 'mine.py", line 2 in <module>' in done.stderr


def test_afterwards_everything_is_as_before():
    before = os._exit
    with pytest.raises(Left, match="9"), watched_import("here"):
        os._exit(9)
    assert os._exit is before
