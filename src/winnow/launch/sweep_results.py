"""Table of a sweep's jobs, `summary.csv`: one row per job, also for jobs that fail."""

import csv
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from winnow.errors import CONFIG, DISK, DIVERGED, DONE, INTERRUPTED, PREEMPTED
from winnow.files import disk_errno, write_atomically
from winnow.launch.jobs import EndedJob, Job
from winnow.launch.run_directory import CHECKPOINTS, has_trace
from winnow.run_logs.run_files import RunFiles
from winnow.study.runs import MERGED
from winnow.visible_text import visible

LABELS = ("algo", "model", "dataset", "seed")
FIGURES = ("iterations", "eval_first", "eval_last", "sampled_tokens", "trained_tokens", "seconds")
METRIC_OF_FIGURE = {
    "iterations": "iteration",
    "sampled_tokens": "train/sampled_tokens_total",
    "trained_tokens": "train/tokens_trained_total",
    "seconds": "time/total",
}
"""The metrics that count the same as figures of `summary.json`."""
COLUMNS: tuple[str, ...] = ("job", "overrides", "status", "exit_code", *LABELS, *FIGURES, "directory")

Cell = str | int | float | None


@dataclass(frozen=True)
class JobRow:
    """One job. Its `labels` are known before it starts; its figures are those of the `summary.json` that it leaves."""

    job: int
    overrides: str
    directory: Path
    labels: dict[str, Cell]
    status: str = "waiting"
    exit_code: int | None = None

    @property
    def figures(self) -> dict[str, Cell]:
        """Contents of the job's `summary.json`; empty if it left none that can be read.

        That of a run that was killed is of its start. Its counters are then those of its last row of metrics.
        """
        files = RunFiles(self.directory)
        summary: dict[str, Cell] = dict(files.read_summary())  # pyright: ignore[reportAssignmentType]
        if summary.get("status") != "running":
            return summary
        try:
            last = files.rows()[-1]
        except (IndexError, ValueError):
            return summary
        return summary | {figure: last[metric] for figure, metric in METRIC_OF_FIGURE.items() if metric in last}

    @property
    def cells(self) -> dict[str, Cell]:
        """One value for each of `COLUMNS`."""
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


def write_rows(path: Path, rows: Sequence[JobRow], others: Sequence[Mapping[str, str]] = ()) -> None:
    """Replace the file atomically; `others` are the cells of jobs of other sweeps in the directory, which stay."""

    def write(beside: Path) -> None:
        with beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows([*others, *(row.cells for row in rows)])

    write_atomically(path, write)


RESULTS = "optimization_results.yaml"
"""File of Hydra's Optuna sweeper with the best settings and their figure."""
HELD_OUT = "eval_last"
"""The figure of `summary.json` that a search optimises where nothing else is said: final held-out accuracy."""


def optimised_figure(directory: Path, metric: str) -> float | None:
    """A figure of the run's `summary.json`, or the last value of a metric; None if the run has none of that name."""
    files = RunFiles(directory)
    value = files.read_summary().get(metric)
    if value is None:
        try:
            value = next((row[metric] for row in reversed(files.rows()) if metric in row), None)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


STATUS_OF_EXIT_CODE = {
    None: "not started",
    DONE: "done",
    CONFIG: "config error",
    DIVERGED: "diverged",
    DISK: "disk full",
    PREEMPTED: "stopped",
    INTERRUPTED: "stopped",
}


class SweepResults:
    """The jobs of all batches of a sweep, and `TOP/summary.csv`, which is rewritten whenever a job ends.

    Jobs of other sweeps in the same directory keep their rows, failures included. `metric` is what a search optimises,
    and `direction` how: minimize or maximize, or None of a sweep that is no search. `typed` are the overrides that all
    jobs share.
    """

    def __init__(
        self, top: Path, metric: str = HELD_OUT, direction: str | None = None, typed: Sequence[str] = ()
    ) -> None:
        self.metric, self.direction, self.typed = metric, direction, typed
        self.path = top / "summary.csv"
        self.rows: dict[int, JobRow] = {}
        self.others = read_rows(self.path)
        self.ended: set[int] = set()
        self.unwritten: OSError | None = None  # why the table is not up to date

    def expect(self, rows: list[JobRow]) -> None:
        """Add jobs that are about to be started. A row that an earlier start left for one of their directories goes,
        and so does that of a merged job with the same overrides, whose directory is another's."""
        self.rows |= {row.job: row for row in rows}
        directories, jobs = {str(row.directory) for row in rows}, [sorted(row.overrides.split()) for row in rows]
        self.others = [
            cells
            for cells in self.others
            if (
                sorted(cells.get("overrides", "").split()) not in jobs
                if cells.get("status") == MERGED
                else cells.get("directory") not in directories
            )
        ]
        self._write()

    def merge(self, job: int, into: int) -> None:
        """Record and print that the run of the job `into`, which is done, stands for `job` too."""
        row = replace(self.rows[job], status=MERGED, exit_code=DONE, directory=self.rows[into].directory)
        self._end(row, f"the run of job {into} stands for it; with hydra.launcher.merge=false both are run")

    def leave(self, job: int, into: int) -> None:
        """Record and print that `job` is not started, because the run of `into`, which trains the same, is not done."""
        row, other = replace(self.rows[job], status=status_of(None)), self.rows[into]
        self._end(row, f"{row.status}: job {into}, which trains the same, ended as `{other.status}`")

    def end(self, ended: EndedJob) -> None:
        """Record and print how a job ended."""
        row = replace(self.rows[ended.job.number], status=status_of(ended.exit_code), exit_code=ended.exit_code)
        self._end(row, _outcome(row, ended))

    def skip_done(self, job: int) -> None:
        """Record and print that an earlier start of the sweep completed the job."""
        row = replace(self.rows[job], status=status_of(DONE), exit_code=DONE)
        self._end(row, f"already done{_accuracies(row)}")

    def _end(self, row: JobRow, outcome: str) -> None:
        self.rows[row.job] = row
        self._write()
        self.ended.add(row.job)
        print(visible(f"[{len(self.ended)}/{len(self.rows)}] {row.job} {row.overrides}: {outcome}"), flush=True)

    def _write(self) -> None:
        """Write the table. If the disk is full, the jobs go on, and the next end of a job tries again."""
        try:
            write_rows(self.path, list(self.rows.values()), self.others)
        except OSError as error:
            if disk_errno(error) is None:
                raise
            self.unwritten = error
        else:
            self.unwritten = None

    def figure(self, job: int) -> float | None:
        """The figure that a sweeper optimises; None for a job that failed, or whose run has no such figure."""
        return optimised_figure(self.rows[job].directory, self.metric) if self.rows[job].exit_code == DONE else None

    @property
    def is_search(self) -> bool:
        return self.direction is not None

    @property
    def has_failed(self) -> bool:
        """Whether a job has not ended well, or was never started."""
        return any(row.exit_code != DONE for row in self.rows.values())

    def best(self) -> tuple[JobRow, float] | None:
        """The job with the best figure, and that figure; None if no job has one."""
        figures = {job: figure for job in self.rows if (figure := self.figure(job)) is not None}
        if not figures:
            return None
        job = (min if self.direction == "minimize" else max)(figures, key=lambda job: figures[job])
        return self.rows[job], figures[job]

    def best_in_words(self) -> str:
        """A line with the best job of a search."""
        found = self.best()
        if found is None:
            return f"no job has a figure `{self.metric}`"
        row, figure = found
        own = " ".join(word for word in row.overrides.split() if word not in self.typed)
        without = sum(self.figure(job) is None for job in self.rows)
        of = f"{len(self.rows)}, {without} of them without a figure" if without else len(self.rows)
        return f"best of {of}: {self.metric} {figure:.6g} with {own}; {row.directory}{self._better_before(figure)}"

    def _better_before(self, figure: float) -> str:
        """Words on a better run that an earlier start left in the directory; empty without one. A search that is
        started again proposes other trials once one that had failed has a figure."""
        better = self._best_before(figure)
        return "" if better is None else f"; an earlier start was better: {self.metric} {better[1]:.6g}, {better[0]}"

    def _best_before(self, figure: float) -> tuple[Path, float] | None:
        """The best run of earlier starts, with its figure, if that is better than `figure`."""
        done = [Path(cells["directory"]) for cells in self.others if cells.get("status") == status_of(DONE)]
        figures = {place: found for place in done if (found := optimised_figure(place, self.metric)) is not None}
        sign = -1 if self.direction == "minimize" else 1
        place = max(figures, key=lambda place: sign * figures[place], default=None)
        return None if place is None or sign * figures[place] <= sign * figure else (place, figures[place])

    def keep_best(self) -> None:
        """Put the best of all starts into `optimization_results.yaml`, which Optuna wrote about this one alone.

        A study without a storage knows no earlier start; one with a storage has written it already. A run that lacks
        one of the settings that are searched over now is of another search.
        """
        file, found = self.path.parent / RESULTS, self.best()
        if found is None or not file.is_file() or (better := self._best_before(found[1])) is None:
            return
        written = yaml.safe_load(file.read_text())
        overrides = yaml.safe_load((better[0] / ".hydra" / "overrides.yaml").read_text())
        values = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(overrides)}
        searched = written.get("best_params", {})
        if {*searched} <= {*values} and self._is_better(better[1], written.get("best_value")):
            written |= {"best_params": {key: values[key] for key in searched}, "best_value": better[1]}
            write_atomically(file, lambda beside: beside.write_text(yaml.safe_dump(written, sort_keys=False)))

    def _is_better(self, figure: float, than: object) -> bool:
        sign = -1 if self.direction == "minimize" else 1
        return isinstance(than, int | float) and sign * figure > sign * than

    def close(self) -> None:
        """Print how many jobs are done, and where their figures are.

        Raises:
            OSError: the disk is full, so that the table is not up to date.
        """
        if self.unwritten is not None:
            raise self.unwritten
        finished = sum(row.exit_code == DONE for row in self.rows.values())
        print(f"{finished} of {len(self.rows)} jobs done; figures in {self.path}", flush=True)


def status_of(exit_code: int | None) -> str:
    """The end of a job in words for the table; the code of a job that was never started is None."""
    if exit_code in STATUS_OF_EXIT_CODE:
        return STATUS_OF_EXIT_CODE[exit_code]
    names = {128 + s: f"killed by {s.name}" for s in signal.Signals}
    return names.get(exit_code or 0, "failed")


def _outcome(row: JobRow, ended: EndedJob) -> str:
    if ended.exit_code is None:
        return row.status
    took = f"{row.status} in {ended.seconds:.0f} s"
    if ended.exit_code in (PREEMPTED, INTERRUPTED) and has_trace(row.directory, CHECKPOINTS):
        return f"{took}; continue with resume={row.directory}"
    if ended.exit_code != DONE:
        return f"{took}; {_last_line(ended.job)} ({ended.job.log})"
    return took + _accuracies(row)


def _accuracies(row: JobRow) -> str:
    first, last = row.figures.get("eval_first"), row.figures.get("eval_last")
    if not isinstance(first, int | float) or not isinstance(last, int | float):
        return ""
    below = ", below its start" if last < first else ""
    return f"; held-out accuracy {first:.1%} → {last:.1%}{below}"


def _last_line(job: Job) -> str:
    lines = job.log.read_text(errors="replace").strip().splitlines() if job.log.is_file() else []
    return lines[-1].strip()[:200] if lines else "no output"
