"""Rows of data files, one object a row: JSONL files, and the Parquet and JSONL files of a hub dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from winnow.errors import ConfigError
from winnow.jsonl import SourceRow, rows_of_file
from winnow.models.hub import require_reachable


def rows_of_hub(repository: str, files: str, instead: str) -> Iterator[SourceRow]:
    """The rows of the Parquet and JSONL files of a hub dataset whose paths match the pattern `files`, in order of path.

    Raises:
        ConfigError: the dataset cannot be downloaded, or has no such file; the message ends with `instead`.
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
        yield from _parquet(path) if path.suffix == ".parquet" else rows_of_file(path, repository)


def _parquet(path: Path) -> Iterator[SourceRow]:
    from pyarrow import ArrowException, parquet

    try:
        rows = (row for batch in parquet.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows, start=1):
            yield SourceRow(f"{path.stem} row {number}", row)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        _refuse_parquet(path, error)


def _refuse_parquet(path: Path, error: Exception) -> NoReturn:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ConfigError(f"{path}: not a readable Parquet file ({first}); remove it, so that it is downloaded again")
