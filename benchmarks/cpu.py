"""CPU seconds of this process and all that it started: what a shared machine cannot stretch, as it does wall time."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """User and system time of all threads of this process, of its children that have ended, and of its living descendants.

    Where there is no /proc, living descendants are left out.
    """
    ended = os.times()
    living = sum(_ticks(pid) for pid in descendants(os.getpid()))
    return time.process_time() + ended.children_user + ended.children_system + living / TICKS


def descendants(pid: int) -> Iterator[int]:
    """The processes that `pid` started and that still live, and theirs."""
    for task in (PROC / str(pid) / "task").glob("*"):
        for child in _read(task / "children").split():
            yield int(child)
            yield from descendants(int(child))


def _ticks(pid: int) -> int:
    """utime, stime, cutime and cstime of proc(5): fields 14 to 17, the first after the name being field 3."""
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _read(path: Path) -> str:
    """Nothing of a process that has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
