"""JSONL files of strangers: rows that are JSON objects, one a line, each refused by its line if it is anything else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from winnow.errors import ConfigError

LONGEST_LINE = 2**26
"""Bytes of the longest line that is read as a row, 64 MiB: a file without line breaks must not fill the memory."""
MOST_DIGITS = 4300
"""Digits of the largest whole number that Python reads from text."""
BINARY = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
"""First bytes of files of other kinds, whatever their name."""


class SourceRow(NamedTuple):
    """A row of a file; `place` says where in the file it stands, as in `line 17`."""

    place: str
    fields: dict[str, object]


def rows_of_file(path: Path, setting: str = "") -> Iterator[SourceRow]:
    """The rows of a JSONL file without its blank lines; `setting` is the key that named it, if one did.

    Raises:
        ConfigError: no such file, no text, a line that is not a JSON object (with its number), or no row at all.
    """
    named = f"{setting}={path}" if setting else str(path)
    _require_text_file(path, named, f"type {setting}=FILE.jsonl" if setting else "type the path of a JSONL file")
    empty = True
    for number, line in enumerate(_lines(path, named), start=1):
        if line.strip():
            empty = False
            yield SourceRow(f"line {number}", _object(line, f"{path}:{number}"))
    if empty:
        raise ConfigError(f"{named}: the file has no rows; it needs a JSON object a line")


def _require_text_file(path: Path, named: str, advice: str) -> None:
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a NUL
        raise ConfigError(f"{named}: no file has such a name ({error}); {advice}") from error
    if is_folder:
        held = ", ".join(sorted(p.name for p in path.glob("*.jsonl"))[:3]) or "no JSONL file"
        raise ConfigError(f"{named}: a folder, which holds {held}; {advice}")
    if not is_file:
        raise ConfigError(f"{named}: no such file; {advice}")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read ({error.strerror})") from error
    for magic, kind in BINARY.items():
        if head.startswith(magic):
            raise ConfigError(f"{named}: {kind}, whatever its name; it needs UTF-8 text, a JSON object a line")


def _lines(path: Path, named: str) -> Iterator[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, broken at line feeds alone."""
    # Not text mode, which would also break lines at U+2028 and the like, which JSON allows inside a string.
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise ConfigError(
                    f"{path}:{number}: a line of more than {LONGEST_LINE:,} bytes; it needs a JSON object a line"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"{named}: line {number} is not UTF-8 text ({error.reason}, byte {error.start + 1}); "
                    "correct or remove that line"
                ) from error


def _object(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line, object_pairs_hook=_without_repeats, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not a JSON object ({error.msg}); correct or remove that line") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: lists or objects too deep to read; correct or remove that line") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; correct or remove that line") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a {type(row).__name__}, not a JSON object; correct or remove that line")
    return row


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {repeated!r} occurs twice")
    return fields


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits, of which at most {MOST_DIGITS:,} are read")
    return int(digits)
