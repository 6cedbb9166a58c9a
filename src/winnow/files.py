"""What this machine has, and where it keeps things."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """What is made once and kept between runs: `$WINNOW_CACHE`, or ~/.cache/winnow."""
    return Path(os.environ.get("WINNOW_CACHE") or Path.home() / ".cache" / "winnow")
