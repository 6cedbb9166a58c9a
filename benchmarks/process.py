"""Resource use of processes as the kernel counts it: CPU seconds of a process tree, resident memory of this process."""

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
STATUS, CLEAR = PROC / "self/status", PROC / "self/clear_refs"
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """User and system time of all threads of this process, of its ended children and of its living descendants.

    On a shared machine other jobs stretch wall time but not CPU seconds. On systems without /proc, living descendants
    are left out.
    """
    ended = os.times()
    living = sum(_ticks(pid) for pid in descendants(os.getpid()))
    return time.process_time() + ended.children_user + ended.children_system + living / TICKS


def descendants(pid: int) -> Iterator[int]:
    """Ids of the living processes that `pid` started, directly or through its children."""
    for task in (PROC / str(pid) / "task").glob("*"):
        for child in _read(task / "children").split():
            yield int(child)
            yield from descendants(int(child))


def _ticks(pid: int) -> int:
    """The sum of utime, stime, cutime and cstime: fields 14 to 17 of proc(5), where the first after the name is 3."""
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _read(path: Path) -> str:
    """The text of a file under /proc, or "" if its process has ended in the meantime."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def can_measure_memory() -> bool:
    """True on Linux, where the kernel's peak of resident memory can be read and reset."""
    return CLEAR.exists()


def reset_peak_memory() -> int:
    """Release freed memory, reset the peak, and return the resident bytes above which the peak is counted."""
    # Without malloc_trim an update would reuse heap memory that sampling has freed and would seem to need none.
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5")  # proc(5): resets the peak resident set size
    return _memory("VmRSS")


def peak_memory() -> int:
    """The most bytes that were resident at one time since the last reset."""
    return _memory("VmHWM")


def _memory(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])
