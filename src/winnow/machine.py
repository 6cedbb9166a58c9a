"""What this machine has, and where it keeps things."""

import os
from pathlib import Path


def memory_bytes() -> int:
    """Main memory, or what the process's control group may take of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        return min(total, int(text))
    return total


def cache() -> Path:
    """What is made once and kept between runs: `$WINNOW_CACHE`, or ~/.cache/winnow."""
    return Path(os.environ.get("WINNOW_CACHE") or Path.home() / ".cache" / "winnow")
