"""JSONL files of strangers: rows that are JSON objects, one a line, each refused by its line if it is anything else."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from winnow.errors import ConfigError
from winnow.source_files import opened

LONGEST_LINE = 2**26
"""Bytes of the longest line that is read as a row, 64 MiB: a file without line breaks must not fill the memory."""
MOST_DIGITS = 4300
"""Digits of the largest whole number that Python reads from text."""
DEEPEST = 100
"""Levels of lists and objects within a row: what later copies a row or writes it calls itself for each of them."""
TOO_DEEP = "lists or objects too deep to read"


class SourceRow(NamedTuple):
    """A row of a file; `place` says where in the file it stands, as in `line 17`."""

    place: str
    fields: dict[str, object]


class BadRow(ConfigError):
    """A row that cannot be used; `fault` says where it stands and what is wrong with it: `a.jsonl:17: not a JSON …`."""

    def __init__(self, where: str, reason: str, advice: str = "correct or remove that row") -> None:
        super().__init__(f"{where}: {reason}; {advice}")
        self.fault, self.advice = f"{where}: {reason}", advice


def rows_of_file(path: Path, setting: str = "") -> Iterator[SourceRow]:
    """The rows of a JSONL file without its blank lines; `setting` is the key that named it, if one did.

    Raises:
        ConfigError: no such file, no text, a line that is not a JSON object (with its number), or no row at all.
    """
    named = f"{setting}={path}" if setting else str(path)
    empty = True
    with opened(path, named, f"type {setting}=FILE.jsonl" if setting else "type the path of a JSONL file") as file:
        for row in rows_of_lines(file, path):
            if isinstance(row, BadRow):
                raise row
            empty = False
            yield row
    if empty:
        raise ConfigError(f"{named}: the file has no rows; it needs a JSON object a line")


def rows_of_lines(file: BinaryIO, path: Path) -> Iterator[SourceRow | BadRow]:
    """The rows of an opened JSONL file at `path`; a line that is none is given as the error that names it."""
    for number, line in enumerate(_lines(file), start=1):
        try:
            if (text := _text(line, number, path)).strip():
                yield SourceRow(f"line {number}", json_object(text, f"{path}:{number}"))
        except BadRow as bad:
            yield bad


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, broken at line feeds alone; of one that is too long, one byte too many."""
    # Not text mode, which would also break lines at U+2028 and the like, which JSON allows inside a string.
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        if len(line) > LONGEST_LINE:
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass


def _text(line: bytes, number: int, path: Path) -> str:
    if len(line) > LONGEST_LINE:
        raise BadRow(f"{path}:{number}", f"a line of more than {LONGEST_LINE:,} bytes; it needs a JSON object a line")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise BadRow(f"{path}:{number}", f"not UTF-8 text ({error.reason}, byte {error.start + 1})") from error


def json_object(text: str, where: str) -> dict[str, object]:
    """The JSON object that a text is.

    Raises:
        BadRow: it is none; the message names `where` it stands.
    """
    try:
        row = parsed(text)
    except json.JSONDecodeError as error:
        raise BadRow(where, f"not a JSON object ({error.msg})") from error
    except RecursionError as error:
        raise BadRow(where, TOO_DEEP) from error
    except ValueError as error:
        raise BadRow(where, str(error)) from error
    if not isinstance(row, dict):
        raise BadRow(where, f"a {type(row).__name__}, not a JSON object")
    if text.count("[") + text.count("{") > DEEPEST and is_too_deep(row):
        raise BadRow(where, TOO_DEEP)
    return row


def is_too_deep(row: object) -> bool:
    """Whether lists and objects are nested in more than `DEEPEST` levels."""
    level = [row]
    for _ in range(DEEPEST + 1):
        level = [part for value in level for part in _parts(value) if isinstance(part, list | dict)]
    return bool(level)


def _parts(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def parsed(text: str) -> object:
    """The JSON value that a text is.

    Raises:
        ValueError: it is none, a field occurs twice in an object, or a number has too many digits.
        RecursionError: it is too deep.
    """
    return json.loads(text, object_pairs_hook=_without_repeats, parse_int=_whole_number)


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
