"""Memory of this process as the kernel counts it (Linux): what is resident, and the most that was since the last reset."""

import ctypes
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available() -> bool:
    return CLEAR.exists()


def reset_peak() -> int:
    """Give freed memory back, forget the peak, and return the bytes that are resident: the line above which the peak is counted."""
    ctypes.CDLL(None).malloc_trim(0)  # lest the update reuse what sampling left in the heap, and seem to need nothing
    CLEAR.write_text("5")  # proc(5): resets the peak resident set size
    return _read("VmRSS")


def peak() -> int:
    """Bytes."""
    return _read("VmHWM")


def _read(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])
