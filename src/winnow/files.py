"""Atomic file writes, and the cache directory.

A file written here appears under its name complete or not at all: it is written beside its final place and then
renamed, which is atomic within one file system. A reader sees either the old file or the new one, and so does the next
process after this one was killed.
"""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path


def cache_directory() -> Path:
    """The directory whose contents are kept between runs: `$WINNOW_CACHE`, or ~/.cache/winnow."""
    return Path(os.environ.get("WINNOW_CACHE") or Path.home() / ".cache" / "winnow")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` create a file beside `path`, flush it to disk and rename it to `path`.

    The temporary name carries the process id, so that two processes that write the same file do not mix their bytes.
    If writing fails, the temporary file is removed and `path` is left as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")


def remove_temporary(directory: Path) -> None:
    """Remove the temporary files that processes which were killed while they wrote here have left in `directory`."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8; line ends are written as they are.

    A byte-level tokenizer may decode to a lone surrogate, which is not UTF-8; backslashreplace turns it into the JSON
    escape that reads back as the same character.
    """
    data = text.encode("utf-8", errors="backslashreplace")
    write_atomically(path, lambda beside: beside.write_bytes(data))


def replace_json(path: Path, value: object) -> None:
    """Write `value` to `path` atomically as indented JSON; NaN and infinities, which JSON cannot say, become null."""
    text = json.dumps(finite_or_null(value), indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(path, text + "\n")


def finite_or_null(value: object) -> object:
    """`value` with every NaN and infinity inside its dictionaries and lists replaced by None."""
    if isinstance(value, dict):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
