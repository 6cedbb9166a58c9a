"""Parquet files of an evaluation's judged responses, written batch by batch so that an interrupted one can continue."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from winnow.errors import ConfigError
from winnow.files import write_atomically
from winnow.run_logs.run_files import ID_COLUMNS, SampleRecord

SCHEMA = pa.schema(
    [
        ("prompt_key", pa.string()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("gold", pa.string()),
        ("extracted", pa.string()),
        ("verdict", pa.string()),
        ("correct", pa.bool_()),
        ("finish", pa.string()),
        ("length", pa.int32()),
        ("seconds", pa.float64()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("response_ids", pa.list_(pa.int32())),
    ]
)
"""Columns of a file. `gold` is the record's `answer`; `correct` follows from `verdict` and is stored for other readers.

The response is stored whole, so that another verifier can judge it later. Files of earlier versions have no token ids,
which then read as null.
"""


def table_of(samples: Sequence[SampleRecord]) -> pa.Table:
    """The samples as a table of `SCHEMA`.

    A lone surrogate, which a byte-level tokenizer may decode to, is not UTF-8 and becomes `?`.
    """
    return pa.Table.from_pylist(
        [{name: _cell(sample, name) for name in SCHEMA.names} for sample in samples], schema=SCHEMA
    )


def _cell(sample: SampleRecord, column: str) -> object:
    value = getattr(sample, "answer" if column == "gold" else column)
    return value.encode("utf-8", errors="replace").decode("utf-8") if isinstance(value, str) else value


def read_samples(path: Path) -> list[SampleRecord]:
    """The samples of a file, in its order.

    Raises:
        ConfigError: there is no such file, or it lacks a column of `SCHEMA`.
    """
    try:
        table = _with_token_ids(parquet.read_table(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}; type the directory of an evaluation") from error
    if missing := [name for name in SCHEMA.names if name not in table.column_names]:
        raise ConfigError(f"{path}: no column {', '.join(missing)}; type the directory of an evaluation")
    stored = table.select([name for name in SCHEMA.names if name != "correct"]).to_pylist()
    return [
        SampleRecord(
            iteration=None,
            answer=row.pop("gold"),
            reward=None,
            advantage=None,
            kept=False,
            **row | {name: None if row[name] is None else tuple(row[name]) for name in ID_COLUMNS},
        )
        for row in stored
    ]


def _with_token_ids(table: pa.Table) -> pa.Table:
    for name in ID_COLUMNS:
        if name not in table.column_names:
            column = SCHEMA.field(name)
            table = table.append_column(column, pa.nulls(len(table), column.type))
    return table


@dataclass(frozen=True, slots=True)
class SampleStore:
    """Folder with one Parquet file per evaluation set: `FOLDER/gsm8k.parquet`.

    Until the set is complete, its batches are `FOLDER/gsm8k/batch_000003.parquet` and so on. Every file is written
    atomically, so a file that exists is complete whatever ended the process, and a batch without a file is drawn again.
    """

    folder: Path

    def whole(self, name: str) -> Path:
        """The file of a complete set."""
        return self.folder / f"{name}.parquet"

    def missing(self, name: str, batches: int) -> list[int]:
        """The batches that are still to be drawn."""
        if self.whole(name).exists():
            return []
        return [batch for batch in range(batches) if not self._part(name, batch).exists()]

    def write(self, name: str, batch: int, samples: Sequence[SampleRecord]) -> None:
        """Store one batch of a set."""
        path = self._part(name, batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace_parquet(path, [table_of(samples)])

    def seal(self, name: str, batches: int) -> None:
        """Join a set's batches into its file, one row group each, and remove them."""
        if not self.whole(name).exists():
            parts = (_with_token_ids(parquet.read_table(self._part(name, batch))) for batch in range(batches))
            _replace_parquet(self.whole(name), parts)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _part(self, name: str, batch: int) -> Path:
        return self.folder / name / f"batch_{batch:06d}.parquet"


def _replace_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    def write(beside: Path) -> None:
        with parquet.ParquetWriter(beside, SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)

    write_atomically(path, write)
