"""Where runs are, and which jobs of a sweep left none."""

import csv
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from winnow.errors import ConfigError
from winnow.study.runs import FailedJob, is_run, last_words, overrides_of, status


def run_directories(directories: Iterable[Path]) -> list[Path]:
    """The runs at any depth, each once."""
    found = (path for top in directories for path in _walk(top) if is_run(path))
    return list({path.resolve(): path for path in found}.values())


def failed_jobs(directories: Iterable[Path], runs: Collection[Path]) -> tuple[FailedJob, ...]:
    """Runs that did not end as done, and jobs of a sweep that left none, each once. What a run's own summary says counts more
    than the sweep's table, as a run can be resumed after it."""
    unfinished = {run.resolve(): _unfinished(run) for run in runs if status(run) != "done"}
    done = {run.resolve() for run in runs} - unfinished.keys()
    of_sweeps = {job.directory.resolve(): job for top in directories for job in _jobs(top)}
    failed = {place: job for place, job in (unfinished | of_sweeps).items() if place not in done}
    return tuple(failed[place] for place in sorted(failed))


def _unfinished(run: Path) -> FailedJob:
    try:
        overrides = " ".join(overrides_of(run))
    except ConfigError as error:  # it may have been killed while these were being written
        overrides = str(error)
    return FailedJob(run, overrides, status(run), None, last_words(run))


def _walk(top: Path) -> Iterator[Path]:
    """Directories from `top` on, not into runs: their checkpoints have no further ones."""
    for place, names, _ in os.walk(top):
        path = Path(place)
        names[:] = [] if is_run(path) else sorted(name for name in names if not name.startswith("."))
        yield path


def _jobs(top: Path) -> Iterator[FailedJob]:
    """Every job of the sweeps under `top`; one called done counts as failed where its run is not found."""
    for path in _walk(top):
        table = path / "summary.csv"
        if not table.is_file():
            continue
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if {"overrides", "status", "exit_code", "directory"} <= row.keys():
                    yield _job(path, row)


def _job(sweep: Path, row: dict[str, str]) -> FailedJob:
    directory = _place(sweep, Path(row["directory"]))
    code = row["exit_code"]
    return FailedJob(directory, row["overrides"], row["status"], int(code) if code else None, _reason(directory))


def _place(sweep: Path, recorded: Path) -> Path:
    """Below the sweep as it lies now: it may have been moved or copied since."""
    below = (sweep.joinpath(*recorded.parts[start:]) for start in range(1, len(recorded.parts)))
    return next((path for path in below if path.is_dir()), recorded)


def _reason(directory: Path) -> str:
    return last_words(directory) if directory.is_dir() else "it left no directory"
