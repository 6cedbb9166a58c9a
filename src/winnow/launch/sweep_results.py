"""`summary.csv` of a sweep: a row a job, also for jobs that fail."""

import csv
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from winnow.errors import CONFIG, DIVERGED, DONE, INTERRUPTED, PREEMPTED
from winnow.launch.jobs import EndedJob, Job
from winnow.launch.resume import CHECKPOINTS

LABELS = ("algo", "model", "dataset", "seed")
FIGURES = ("iterations", "eval_first", "eval_last", "sampled_tokens", "trained_tokens", "seconds")
COLUMNS = ("job", "overrides", "status", "exit_code", *LABELS, *FIGURES, "directory")

Cell = str | int | float | None


@dataclass(frozen=True)
class JobRow:
    """One job. `labels` are known before it starts; figures come from its `summary.json`, where it left one."""

    job: int
    overrides: str
    directory: Path
    labels: dict[str, Cell]
    status: str = "waiting"
    exit_code: int | None = None

    @property
    def figures(self) -> dict[str, Cell]:
        try:
            return json.loads((self.directory / "summary.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    @property
    def cells(self) -> dict[str, Cell]:
        figures = self.figures
        return {
            "job": self.job,
            "overrides": self.overrides,
            "status": self.status,
            "exit_code": self.exit_code,
            **{name: figures.get(name, self.labels.get(name)) for name in LABELS},
            **{name: figures.get(name) for name in FIGURES},
            "directory": str(self.directory),
        }


def read_rows(path: Path) -> list[dict[str, str]]:
    """The cells of each row; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[JobRow], earlier: Sequence[Mapping[str, str]] = ()) -> None:
    """Replace the file in one step: a reader, or a kill, meets either the old rows or the new ones.

    `earlier` are the cells of jobs of earlier starts, which stay.
    """
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([cells.get(name) for name in COLUMNS] for cells in [*earlier, *(row.cells for row in rows)])
    os.replace(part, path)


STATUS_OF_EXIT_CODE = {
    None: "not started",
    DONE: "done",
    CONFIG: "config error",
    DIVERGED: "diverged",
    PREEMPTED: "stopped",
    INTERRUPTED: "stopped",
}


class SweepResults:
    """`TOP/summary.csv`, rewritten whenever a job ends; the rows of all batches of a sweep.

    Jobs that an earlier start of another sweep left in the same directory keep their rows, failures included.
    """

    def __init__(self, top: Path) -> None:
        self.path = top / "summary.csv"
        self.rows: dict[int, JobRow] = {}
        self.earlier = read_rows(self.path)
        self.over: set[int] = set()

    def expect(self, rows: list[JobRow]) -> None:
        self.rows |= {row.job: row for row in rows}
        again = {str(row.directory) for row in rows}
        self.earlier = [cells for cells in self.earlier if cells.get("directory") not in again]
        self._write()

    def end(self, ended: EndedJob) -> None:
        row = replace(self.rows[ended.job.number], status=status_of(ended.exit_code), exit_code=ended.exit_code)
        self._over(row, _outcome(row, ended))

    def done_before(self, job: int) -> None:
        """An earlier start of the sweep has done it."""
        row = replace(self.rows[job], status=status_of(DONE), exit_code=DONE)
        self._over(row, f"done before{_accuracies(row)}")

    def _over(self, row: JobRow, outcome: str) -> None:
        self.rows[row.job] = row
        self._write()
        self.over.add(row.job)
        print(f"[{len(self.over)}/{len(self.rows)}] {row.job} {row.overrides}: {outcome}", flush=True)

    def _write(self) -> None:
        write_rows(self.path, list(self.rows.values()), self.earlier)

    def figure(self, job: int) -> float | None:
        """What a sweeper optimises: final held-out accuracy, or None from a job that failed."""
        value = self.rows[job].figures.get("eval_last") if self.rows[job].exit_code == DONE else None
        return value if isinstance(value, int | float) else None

    def close(self) -> None:
        finished = sum(row.exit_code == DONE for row in self.rows.values())
        print(f"{finished} of {len(self.rows)} jobs done; figures in {self.path}", flush=True)


def status_of(exit_code: int | None) -> str:
    if exit_code in STATUS_OF_EXIT_CODE:
        return STATUS_OF_EXIT_CODE[exit_code]
    names = {128 + s: f"killed by {s.name}" for s in signal.Signals}
    return names.get(exit_code or 0, "failed")


def _outcome(row: JobRow, ended: EndedJob) -> str:
    if ended.exit_code is None:
        return row.status
    took = f"{row.status} in {ended.seconds:.0f} s"
    if ended.exit_code in (PREEMPTED, INTERRUPTED) and next(row.directory.glob(CHECKPOINTS), None) is not None:
        return f"{took}; resume={row.directory} goes on"
    if ended.exit_code != DONE:
        return f"{took}; {_last_line(ended.job)} ({ended.job.log})"
    return took + _accuracies(row)


def _accuracies(row: JobRow) -> str:
    first, last = row.figures.get("eval_first"), row.figures.get("eval_last")
    both = isinstance(first, int | float) and isinstance(last, int | float)
    return f"; held-out accuracy {first:.1%} → {last:.1%}" if both else ""


def _last_line(job: Job) -> str:
    lines = job.log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else "no output"
