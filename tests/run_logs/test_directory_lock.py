"""Lock of a directory: one process at a time, given up with the process, and honest where flock says nothing."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from winnow.run_logs import directory_lock
from winnow.run_logs.directory_lock import LOCK, DirectoryLock, Held, Holder, holder_of

HOLD = """
import sys, time
from pathlib import Path
from winnow.run_logs.directory_lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])) as lock:
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(directory: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def left_by(directory: Path, holder: Holder, age: float = 0.0) -> Path:
    """The lock file that `holder` left, with a time stamp of `age` seconds ago."""
    path = directory / LOCK
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def elsewhere() -> Holder:
    return replace(Holder.here(), host="node7", machine="another boot")


def quick_watch(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.5) -> None:
    monkeypatch.setattr(directory_lock, "WATCH_SECONDS", seconds)
    monkeypatch.setattr(directory_lock, "TRY_SECONDS", 0.01)


def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(directory_lock.UNSUPPORTED[0], "no flock on this file system")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_second_process_is_told_who_holds_it_and_gets_it_afterwards(tmp_path: Path):
    other = holding(tmp_path)
    with pytest.raises(Held) as held, DirectoryLock(tmp_path):
        pass
    assert held.value.holder is not None
    assert held.value.holder.pid == other.pid
    assert holder_of(tmp_path) == held.value.holder
    other.communicate("")
    assert holder_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with DirectoryLock(tmp_path):
        mine = holder_of(tmp_path)
        assert mine is not None
        assert mine.pid == os.getpid()


def test_the_lock_of_a_killed_process_is_free_and_stays_as_it_was_for_who_leaves_by_an_error(tmp_path: Path):
    other = holding(tmp_path)
    left = (tmp_path / LOCK).read_bytes()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert holder_of(tmp_path) is None
    with pytest.raises(ValueError, match="refused"), DirectoryLock(tmp_path):
        raise ValueError("refused")
    assert (tmp_path / LOCK).read_bytes() == left
    with DirectoryLock(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_child_that_inherits_the_descriptor_holds_the_lock_when_the_parent_is_gone(tmp_path: Path):
    """So do the jobs of a sweep that was killed."""
    script = """
import os, subprocess, sys
from pathlib import Path
from winnow.run_logs.directory_lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])) as lock:
    child = subprocess.Popen(["sleep", "60"], pass_fds=(lock.descriptor,), stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""
    parent = subprocess.run([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    assert holder_of(tmp_path) is not None
    with pytest.raises(Held), DirectoryLock(tmp_path):
        pass
    os.kill(int(parent.stdout), signal.SIGKILL)
    end = time.monotonic() + 20
    while holder_of(tmp_path) is not None and time.monotonic() < end:
        time.sleep(0.01)
    with DirectoryLock(tmp_path):
        pass


def test_a_process_number_that_is_used_again_is_not_the_holder(tmp_path: Path):
    left_by(tmp_path, replace(Holder.here(), started=1))
    assert holder_of(tmp_path) is None
    with DirectoryLock(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00" * 300])
def test_a_lock_file_that_names_nobody_is_free(tmp_path: Path, text: str):
    (tmp_path / LOCK).write_text(text)
    assert holder_of(tmp_path) is None
    with DirectoryLock(tmp_path):
        pass


def test_without_flock_a_living_holder_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    quick_watch(monkeypatch)
    without_flock(monkeypatch)
    left_by(tmp_path, Holder.here())
    with pytest.raises(Held), DirectoryLock(tmp_path):
        pass
    assert holder_of(tmp_path) is not None


@pytest.mark.parametrize("flock", [True, False])
def test_a_holder_on_another_machine_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: bool):
    """Where its time stamp moves it is refused, where it stands still the lock is taken over."""
    quick_watch(monkeypatch)
    if not flock:
        without_flock(monkeypatch)
    path, said, ended = left_by(tmp_path, elsewhere(), age=5.0), [], threading.Event()

    def beat() -> None:
        while not ended.wait(0.05):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    with pytest.raises(Held, match="node7"), DirectoryLock(tmp_path, said.append):
        pass
    ended.set()
    beating.join()
    assert len(said) == 1
    assert "node7" in said[0]
    with DirectoryLock(tmp_path, said.append):
        pass
    assert len(said) == 2


def test_a_holder_on_another_machine_that_is_silent_for_hours_is_not_watched(tmp_path: Path):
    left_by(tmp_path, elsewhere(), age=2 * directory_lock.SURELY_DEAD_SECONDS)
    said: list[object] = []
    with DirectoryLock(tmp_path, said.append):
        pass
    assert said == []
    assert holder_of(tmp_path) is None


def test_the_holder_renews_the_time_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(directory_lock, "BEAT_SECONDS", 0.02)
    with DirectoryLock(tmp_path):
        os.utime(tmp_path / LOCK, (1, 1))
        end = time.monotonic() + 20
        while (tmp_path / LOCK).stat().st_mtime == 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert (tmp_path / LOCK).stat().st_mtime > 1


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path):
    script = """
import sys
from pathlib import Path
from winnow.run_logs.directory_lock import DirectoryLock, Held
sys.stdin.readline()
try:
    with DirectoryLock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except Held:
    print("refused", flush=True)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    many = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for process in many:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    words = [process.stdout.readline().strip() for process in many if process.stdout is not None]
    assert sorted(words) == ["held", *["refused"] * 5]
    for process in many:
        process.communicate("end\n", timeout=60)


def test_a_directory_that_cannot_be_written_raises(tmp_path: Path):
    with pytest.raises(OSError, match="No such file"), DirectoryLock(tmp_path / "gone"):
        pass
