"""Table of a run's metrics, `metrics.csv`: a row an iteration, a column a metric, empty where nothing was measured.

Lightning's own logger for this starts the file anew at a resume.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from winnow.files import write_atomically
from winnow.run_logs.run_files import SampleRecord, Summary
from winnow.run_logs.tracker import RunInfo

FILE = "metrics.csv"
Row = dict[str, str]


class CSVTracker:
    """Tracker that writes `metrics.csv` in the run directory (`logger=csv`).

    A resumed run goes on in the table, without the rows of iterations that it computes again.
    """

    def __init__(self) -> None:
        self.path = Path(FILE)
        self.columns: list[str] = []
        self.rows: list[Row] = []

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        """Read the table of earlier starts, if there is one. The table needs no id."""
        self.path = directory / FILE
        self.columns, self.rows = read_table(self.path)
        return FILE

    def log(self, row: Mapping[str, float | int]) -> None:
        """Add the iteration's row. A metric that was never measured before gets a column behind the others."""
        kept = [old for old in self.rows if int(old["iteration"]) < row["iteration"]]
        new = [key for key in row if key not in self.columns]
        cells = {key: repr(value) for key, value in row.items()}
        must_rewrite = bool(new) or len(kept) < len(self.rows)
        self.columns, self.rows = [*self.columns, *new], [*kept, cells]
        if must_rewrite:
            write_atomically(self.path, self._write)
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(cells)

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None: ...

    def finish(self, summary: Summary, failed: bool) -> None: ...

    def _write(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of the table, without a last row that a crash cut short; none where there is no file."""
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values() and None not in row]
        return list(reader.fieldnames or []), rows
