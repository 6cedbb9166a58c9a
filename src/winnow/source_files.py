"""Data files of strangers, opened as bytes: plain or gzip, each refused in one line if it is of another kind."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from winnow.errors import ConfigError

PARQUET, GZIP = b"PAR1", b"\x1f\x8b"
BINARY = {
    GZIP: "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    PARQUET: "a Parquet file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
"""First bytes of files that are no UTF-8 text, whatever their name."""


@contextmanager
def opened(path: Path, named: str, advice: str, parquet: bool = False) -> Iterator[BinaryIO]:
    """Context with the bytes of a file, unpacked where its name ends in `.gz`: UTF-8 text, or else a `parquet` file.

    Messages call the file `named`, and end with `advice` where the name is no file's.

    Raises:
        ConfigError: no such file, of another kind than its name says, damaged, or not readable.
    """
    require_file(path, named, advice)
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            _require_kind(path, packed, named, parquet)
            yield cast(BinaryIO, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{named}: a damaged gzip archive ({error}); write or download it again") from error
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read ({error.strerror or error})") from error


def require_file(path: Path, named: str, advice: str) -> None:
    """Check that there is a file at `path`.

    Raises:
        ConfigError: there is none; the message ends with `advice`.
    """
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a NUL
        raise ConfigError(f"{named}: no file has such a name ({error}); {advice}") from error
    if is_folder:
        held = ", ".join(sorted(p.name for p in path.iterdir() if is_data_file(p))[:3]) or "no data file"
        raise ConfigError(f"{named}: a folder, which holds {held}; {advice}")
    if not is_file:
        # A pipe or a device could not be read twice, and a link may lead in a circle.
        other = "not a regular file" if path.exists() else "a link that leads to no file" if path.is_symlink() else ""
        raise ConfigError(f"{named}: {other or 'no such file'}; {advice}")


FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Ends of the names of files that hold rows, each also followed by `.gz`."""


def format_of(path: Path | str) -> str | None:
    """The end of a file's name that tells its format, without `.gz`: `.csv` for `a.csv.gz`; None for any other name."""
    name = str(path).lower().removesuffix(".gz")
    return next((end for end in FORMATS if name.endswith(end)), None)


def is_data_file(path: Path | str) -> bool:
    """Whether the name of a file says that it holds rows."""
    return format_of(path) is not None


def _require_kind(path: Path, packed: bool, named: str, parquet: bool) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    if packed and not head.startswith(GZIP):
        raise ConfigError(f"{named}: no gzip archive, whatever its name; name it {path.name[:-3]}")
    if packed:
        with gzip.open(path) as file:
            head = file.read(8)
    if not packed and head.startswith(GZIP):
        raise ConfigError(f"{named}: a gzip archive, whatever its name; name it {path.name}.gz")
    for magic, kind in BINARY.items():
        if head.startswith(magic) and not (parquet and magic == PARQUET):
            hint = f"; name it {path.stem}.parquet" if magic == PARQUET else ""
            raise ConfigError(f"{named}: {kind}, whatever its name, where UTF-8 text is read{hint}")
