"""Rows of data files in any format: JSONL, JSON, CSV, TSV and Parquet, each plain or packed by gzip.

The same rows give the same fields in every format that can hold them. CSV knows only text: there an empty cell is null,
and a column is of numbers if every other cell is written as JSON writes a number.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from winnow.errors import ConfigError
from winnow.jsonl import TOO_DEEP, BadRow, SourceRow, is_too_deep, parsed, rows_of_lines
from winnow.source_files import format_of, opened

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch

Rows = Iterator[SourceRow | BadRow]


def rows_of_data_file(path: Path, setting: str = "") -> Rows:
    """The rows of a file whose name tells its format; any other name is that of a JSONL file.

    A row that cannot be read is given as the error that names it. `setting` is the key that named the file, if one did.

    Raises:
        ConfigError: no such file, of another kind than its name says, damaged as a whole, or without any row.
    """
    named, kind = f"{setting}={path}" if setting else str(path), format_of(path)
    empty = True
    advice = f"type {setting}=FILE.jsonl (or .json, .csv, .parquet)" if setting else "type the path of a data file"
    with opened(path, named, advice, parquet=kind == ".parquet") as file:
        for row in READERS.get(kind, rows_of_lines)(file, path):
            empty = False
            yield row
    if empty:
        raise ConfigError(f"{named}: the file has no rows")


def _json(file: BinaryIO, path: Path) -> Rows:
    """The rows of a JSON file: a list of objects, or an object with one such list. Some hold JSONL all the same."""
    content = file.read()
    if _is_jsonl(content):
        yield from rows_of_lines(io.BytesIO(content), path)
        return
    for number, row in enumerate(_list_in(content, path), start=1):
        if is_too_deep(row):
            yield BadRow(f"{path}, row {number}", TOO_DEEP)
        elif isinstance(row, dict):
            yield SourceRow(f"row {number}", row)
        else:
            yield BadRow(f"{path}, row {number}", f"a {type(row).__name__}, not a JSON object")


def _is_jsonl(content: bytes) -> bool:
    """Whether the first of several lines is a JSON object by itself."""
    first, _, rest = content.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _list_in(content: bytes, path: Path) -> list[object]:
    try:
        found = parsed(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text ({error.reason}); correct that line") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not JSON ({error.msg}); correct that line") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: lists or objects too deep to read") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    lists = {name: value for name, value in found.items() if isinstance(value, list)} if isinstance(found, dict) else {}
    if isinstance(found, list):
        return found
    if len(lists) == 1:
        return next(iter(lists.values()))
    has = f"an object with the lists {', '.join(lists)}" if lists else f"a {type(found).__name__} without a list"
    raise ConfigError(f"{path}: {has}; it needs a list of objects, or an object with one such list")


def _csv(file: BinaryIO, path: Path, delimiter: str = ",") -> Rows:
    rows = list(_cells(file, path, delimiter))
    header = next((row for row in rows if isinstance(row, _Cells)), None)
    if header is None:
        yield from (row for row in rows if isinstance(row, BadRow))
        return
    names = header.cells
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None or "" in names:
        wrong = "a column without a name" if repeated is None or not repeated else f"the column {repeated!r} twice"
        raise ConfigError(f"{path}:{header.line}: the header has {wrong}; correct that line")
    whole = [row for row in rows if isinstance(row, _Cells) and len(row.cells) == len(names)][1:]
    read = [_number if _is_numeric(row.cells[i] for row in whole) else _text for i in range(len(names))]
    for row in rows:
        if isinstance(row, BadRow):
            yield row
        elif len(row.cells) != len(names):
            yield BadRow(f"{path}:{row.line}", f"has {len(row.cells)} cells, and the header {len(names)}")
        elif row is not header:
            fields = {name: as_read(cell) for name, as_read, cell in zip(names, read, row.cells, strict=True)}
            yield SourceRow(f"line {row.line}", fields)


class _Cells:
    """The cells of a row that begins at a line of the file."""

    __slots__ = ("cells", "line")

    def __init__(self, line: int, cells: list[str]) -> None:
        self.line, self.cells = line, cells


LONGEST_CELL = 2**26


def _cells(file: BinaryIO, path: Path, delimiter: str) -> Iterator[_Cells | BadRow]:
    csv.field_size_limit(LONGEST_CELL)
    # Bytes that are no UTF-8 become half surrogates, so that their row can be named.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield BadRow(f"{path}:{line}", f"not CSV ({error})")
        else:
            if cells is None:
                return
            if any(map(_is_escaped, cells)):
                yield BadRow(f"{path}:{line}", "not UTF-8 text")
            elif cells:
                yield _Cells(line, cells)
        line = reader.line_num + 1


def _is_escaped(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell)


def _is_numeric(cells: Iterator[str]) -> bool:
    found = [cell for cell in cells if cell]
    return bool(found) and all(map(_is_number, found))


def _is_number(cell: str) -> bool:
    """Whether a cell is a number as JSON writes it, so that reading it loses nothing: `12` and `0.5`, not `012`."""
    try:
        return json.dumps(json.loads(cell)) == cell and cell[-1].isdigit()
    except (ValueError, RecursionError):
        return False


def _number(cell: str) -> object:
    return json.loads(cell) if cell else None


def _text(cell: str) -> object:
    return cell or None


def _tsv(file: BinaryIO, path: Path) -> Rows:
    return _csv(file, path, "\t")


def _parquet(file: BinaryIO, path: Path) -> Rows:
    from pyarrow import ArrowException, parquet

    try:
        opened_file = parquet.ParquetFile(file)
        names = opened_file.schema_arrow.names
        if (repeated := next((name for name in names if names.count(name) > 1), None)) is not None:
            raise ConfigError(f"{path}: has the column {repeated!r} twice; write it with one")
        batches = (_parquet_columns(batch, path) for batch in opened_file.iter_batches())
        rows = (dict(zip(names, row, strict=True)) for columns in batches for row in zip(*columns, strict=True))
        for number, row in enumerate(rows, start=1):
            yield BadRow(f"{path}, row {number}", TOO_DEEP) if is_too_deep(row) else SourceRow(f"row {number}", row)
    except (ArrowException, OSError, UnicodeDecodeError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: not a readable Parquet file ({first}); write or download it again") from error


def _parquet_columns(batch: "RecordBatch", path: Path) -> list[list[object]]:
    """The values of every column of a batch.

    Raises:
        ConfigError: Python has no such value, such as a date of the year 20000; the message names the column.
    """
    found: list[list[object]] = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            found.append(column.cast(_in_microseconds(field.type), safe=False).to_pylist())
        except (ValueError, OverflowError, NotImplementedError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{path}: the column {field.name!r} ({field.type}) cannot be read ({said}); write the file without it"
            ) from error
    return found


def _in_microseconds(kind: "DataType") -> "DataType":
    """A type of Parquet with all times in it in microseconds, because those of Python have no nanoseconds."""
    from pyarrow import duration, large_list, list_, struct, time64, timestamp, types

    if types.is_timestamp(kind) and kind.unit == "ns":
        return timestamp("us", kind.tz)
    if types.is_time64(kind):
        return time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return duration("us")
    if types.is_list(kind) or types.is_large_list(kind):
        make = list_ if types.is_list(kind) else large_list
        return make(kind.value_field.with_type(_in_microseconds(kind.value_type)))
    if types.is_struct(kind):
        return struct([part.with_type(_in_microseconds(part.type)) for part in kind.fields])
    return kind


READERS: dict[str | None, Callable[[BinaryIO, Path], Rows]] = {
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
"""Readers of all formats but JSONL, by the end of a file's name."""
