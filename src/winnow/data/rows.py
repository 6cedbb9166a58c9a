"""Rows of a JSONL file, or of a hub dataset's files, each with the place it stands at."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from winnow.data.hub import require_reachable
from winnow.errors import ConfigError


class Row(NamedTuple):
    """`place` names the row within its file: `line 17`."""

    place: str
    fields: dict[str, object]


def of_file(path: Path, setting: str) -> Iterator[Row]:
    """The rows of a JSONL file, blank lines skipped; `setting` is the key that named the file.

    Raises:
        ConfigError: no such file, no text, a line that is no JSON object (with its number), or no row at all.
    """
    if not path.is_file():
        raise ConfigError(f"{setting}={path}: no such file; type {setting}=FILE.jsonl")
    empty = True
    try:
        # Not splitlines(): it would also break at U+2028 and friends, which JSON allows inside a string.
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    empty = False
                    yield Row(f"line {number}", _object(line, f"{path}:{number}"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{setting}={path}: not UTF-8 text ({error.reason}); expected one JSON object a line"
        ) from error
    if empty:
        raise ConfigError(
            f"{setting}={path}: the file has no rows; type {setting}=FILE.jsonl with a JSON object a line"
        )


def _object(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not a JSON object ({error.msg}); mend or remove that line") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a {type(row).__name__}, not a JSON object; mend or remove that line")
    return row


def of_hub(repository: str, files: str, instead: str) -> Iterator[Row]:
    """The rows of the Parquet and JSONL files of a hub dataset whose paths match the pattern `files`, in order of path.

    Raises:
        ConfigError: the dataset cannot be had, or has no such file; ends with `instead`.
    """
    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=files, local_files_only=True)
    except LocalEntryNotFoundError:
        require_reachable(repository, "dataset", instead)
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=files)
    found = sorted(path for path in Path(folder).glob(files) if path.suffix in (".parquet", ".jsonl"))
    if not found:
        raise ConfigError(f"dataset {repository}: no Parquet or JSONL file matches {files!r} in {folder}; {instead}")
    for path in found:
        yield from _parquet(path) if path.suffix == ".parquet" else of_file(path, repository)


def _parquet(path: Path) -> Iterator[Row]:
    from pyarrow import parquet

    number = 0
    for batch in parquet.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield Row(f"{path.stem} row {number}", row)
