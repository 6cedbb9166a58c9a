"""What a sweep's jobs came to: rows of `summary.csv` and one line each on the terminal."""

import signal
from dataclasses import replace
from pathlib import Path

from winnow.app import summary
from winnow.app.jobs import Ended, Job
from winnow.app.resume import CHECKPOINTS
from winnow.app.summary import Row
from winnow.errors import CONFIG, DIVERGED, DONE, INTERRUPTED, PREEMPTED

STATUS = {
    None: "not started",
    DONE: "done",
    CONFIG: "config error",
    DIVERGED: "diverged",
    PREEMPTED: "stopped",
    INTERRUPTED: "stopped",
}


class Ledger:
    """`TOP/summary.csv`, rewritten whenever a job ends; the rows of all batches of a sweep.

    Jobs that an earlier start of another sweep left in the same directory keep their rows, failures included.
    """

    def __init__(self, top: Path) -> None:
        self.path = top / "summary.csv"
        self.rows: dict[int, Row] = {}
        self.earlier = summary.read(self.path)
        self.over: set[int] = set()

    def expect(self, rows: list[Row]) -> None:
        self.rows |= {row.job: row for row in rows}
        again = {str(row.directory) for row in rows}
        self.earlier = [cells for cells in self.earlier if cells.get("directory") not in again]
        self._write()

    def end(self, ended: Ended) -> None:
        row = replace(self.rows[ended.job.number], status=status(ended.exit_code), exit_code=ended.exit_code)
        self._over(row, _outcome(row, ended))

    def done_before(self, job: int) -> None:
        """An earlier start of the sweep has done it."""
        row = replace(self.rows[job], status=status(DONE), exit_code=DONE)
        self._over(row, f"done before{_accuracies(row)}")

    def _over(self, row: Row, outcome: str) -> None:
        self.rows[row.job] = row
        self._write()
        self.over.add(row.job)
        print(f"[{len(self.over)}/{len(self.rows)}] {row.job} {row.overrides}: {outcome}", flush=True)

    def _write(self) -> None:
        summary.write(self.path, list(self.rows.values()), self.earlier)

    def figure(self, job: int) -> float | None:
        """What a sweeper optimises: final held-out accuracy, or None from a job that failed."""
        value = self.rows[job].figures.get("eval_last") if self.rows[job].exit_code == DONE else None
        return value if isinstance(value, int | float) else None

    def close(self) -> None:
        finished = sum(row.exit_code == DONE for row in self.rows.values())
        print(f"{finished} of {len(self.rows)} jobs done; figures in {self.path}", flush=True)


def status(exit_code: int | None) -> str:
    if exit_code in STATUS:
        return STATUS[exit_code]
    names = {128 + s: f"killed by {s.name}" for s in signal.Signals}
    return names.get(exit_code or 0, "failed")


def _outcome(row: Row, ended: Ended) -> str:
    if ended.exit_code is None:
        return row.status
    took = f"{row.status} in {ended.seconds:.0f} s"
    if ended.exit_code in (PREEMPTED, INTERRUPTED) and next(row.directory.glob(CHECKPOINTS), None) is not None:
        return f"{took}; resume={row.directory} goes on"
    if ended.exit_code != DONE:
        return f"{took}; {_last_line(ended.job)} ({ended.job.log})"
    return took + _accuracies(row)


def _accuracies(row: Row) -> str:
    first, last = row.figures.get("eval_first"), row.figures.get("eval_last")
    both = isinstance(first, int | float) and isinstance(last, int | float)
    return f"; held-out accuracy {first:.1%} → {last:.1%}" if both else ""


def _last_line(job: Job) -> str:
    lines = job.log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else "no output"
