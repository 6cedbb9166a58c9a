"""Samples on disk: batch by batch while they are drawn, one file a set once they are all there."""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from winnow.evaluation.sample import SCHEMA, Sample, table_of


@dataclass(frozen=True, slots=True)
class Store:
    """`FOLDER/gsm8k.parquet`; until it is whole, `FOLDER/gsm8k/batch_000003.parquet` and its like.

    A file under its final name is whole: it is written beside itself and renamed. So whatever ends a process, what is
    there can be trusted, and what is not there is drawn again.
    """

    folder: Path

    def whole(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def missing(self, name: str, batches: int) -> list[int]:
        """The batches still to be drawn."""
        if self.whole(name).exists():
            return []
        return [batch for batch in range(batches) if not self._part(name, batch).exists()]

    def write(self, name: str, batch: int, samples: Sequence[Sample]) -> None:
        path = self._part(name, batch)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, [table_of(samples)])

    def seal(self, name: str, batches: int) -> None:
        """Join the batches, one row group each, and remove them."""
        if not self.whole(name).exists():
            _replace(self.whole(name), (parquet.read_table(self._part(name, batch)) for batch in range(batches)))
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def names(self) -> list[str]:
        """The sets that are whole."""
        return sorted(path.stem for path in self.folder.glob("*.parquet") if not path.name.startswith("."))

    def _part(self, name: str, batch: int) -> Path:
        return self.folder / name / f"batch_{batch:06d}.parquet"


def _replace(path: Path, tables: Iterable[pa.Table]) -> None:
    neighbour = path.with_name(f".{path.name}.tmp")
    with parquet.ParquetWriter(neighbour, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)
    with neighbour.open("rb") as file:
        os.fsync(file.fileno())
    neighbour.replace(path)
