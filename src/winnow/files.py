"""Atomic file writes, the failures of a disk, and the cache directory.

A file written here appears under its name complete or not at all: it is written beside its final place and then
renamed, which is atomic within one file system. A reader sees either the old file or the new one, and so does the next
process after this one was killed.
"""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from winnow.errors import ConfigError, DiskFailure


def cache_directory() -> Path:
    """The directory whose contents are kept between runs: `$WINNOW_CACHE`, or ~/.cache/winnow."""
    return Path(os.environ.get("WINNOW_CACHE") or Path.home() / ".cache" / "winnow")


def keep_compiled_code() -> None:
    """Have torch keep compiled code where Winnow caches. Importing torch's compiler makes the folder, in $TMPDIR if
    nothing else is said before."""
    folder = cache_directory() / "torchinductor"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


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


def regular_file(path: Path, most: float = math.inf) -> Path:
    """`path`, where a file may have been damaged or replaced: to read a pipe or a device would never end.

    Raises:
        OSError: it is no regular file of at most `most` bytes.
    """
    if not path.is_file():
        raise OSError(errno.EINVAL if path.exists() else errno.ENOENT, "no regular file", str(path))
    if path.stat().st_size > most:
        raise OSError(errno.EFBIG, "larger than such a file can be", str(path))
    return path


def require_new(path: Path) -> None:
    """Check that nothing is at `path`, where a folder is to be written.

    Raises:
        ConfigError: something is, or nothing can have such a name.
    """
    try:
        is_there = path.exists() or path.is_symlink()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be written ({error}); choose another directory") from error
    if is_there:
        raise ConfigError(f"{path}: exists already; type the name of a new directory")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a `regular_file` as hexadecimal digits. Raises OSError if it is none or cannot be read."""
    with regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_regular(path: Path) -> bytes:
    """The bytes of a `regular_file`. Raises OSError if it is none or cannot be read."""
    return regular_file(path).read_bytes()


def parsed_json(text: str | bytes) -> object:
    """The value of a JSON text from a file that may have been damaged.

    Raises:
        ValueError: it is no JSON, is nested too deeply to be read, or is not UTF-8.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def flush_to_disk(*paths: Path) -> None:
    """Have the system write the files and directories that exist to the disk, to outlast a power failure."""
    for path in paths:
        if path.exists():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


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
    """Write `value` to `path` atomically as `json_text`."""
    replace_text(path, json_text(value))


def json_text(value: object) -> str:
    """`value` as indented JSON with a line end; NaN and infinities, which JSON cannot say, become null."""
    return json.dumps(finite_or_null(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite_or_null(value: object) -> object:
    """`value` with every NaN and infinity inside its dictionaries and lists replaced by None."""
    if isinstance(value, dict):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Errors of a disk, or a quota, without room for more bytes or files."""
UNWRITABLE = frozenset((errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO))
"""Errors of a disk that has become read-only, that fails, or that is gone."""


def disk_errno(error: BaseException) -> int | None:
    """The error number, of `FULL` or `UNWRITABLE`, of the failed write that `error` tells of; None if it is no such.

    torch raises a RuntimeError while it handles the OSError, and libraries in Rust put the number into the message.
    """
    seen: BaseException | None = error
    while seen is not None:
        named = re.search(r"\(os error (\d+)\)", str(seen))
        number = seen.errno if isinstance(seen, OSError) else int(named[1]) if named else None
        if number in FULL or number in UNWRITABLE:
            return number
        seen = seen.__cause__ or seen.__context__
    return None


def failed_path(error: BaseException) -> str | None:
    """The file that `error`, or an error behind it, names."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.filename is not None:
            return str(seen.filename)
        seen = seen.__cause__ or seen.__context__
    return None


class DiskErrors:
    """Context in which a write that the disk refuses raises DiskFailure, whose line ends with `advice()`."""

    def __init__(self, where: Path | str, advice: Callable[[], str]) -> None:
        self.where, self.advice = where, advice

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, ConfigError | DiskFailure):  # says already what is wrong
            return
        if (failure := disk_failure(error, self.where, self.advice())) is not None:
            raise failure from None


def disk_failure(error: BaseException, where: Path | str, advice: str) -> DiskFailure | None:
    """The DiskFailure that `error` amounts to, None if the disk is not its reason.

    A directory that was there and is gone counts: someone deleted or moved it, and nothing can be written any more.
    """
    number = disk_errno(error)
    if number is None:
        if isinstance(error, FileNotFoundError) and isinstance(where, Path) and not where.exists():
            return DiskFailure(
                f"{where}: deleted or moved while it was written to; if it was moved, resume it where it is now"
            )
        return None
    return DiskFailure(f"{failed_path(error) or where}: {os.strerror(number)}; {advice}")
