"""Runs and failed jobs of a study, read from run directories and from the tables of sweeps."""

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import yaml

from winnow.errors import ConfigError
from winnow.files import parsed_json, read_regular
from winnow.run_logs.objective_file import Objective, read_objective
from winnow.run_logs.run_files import EvaluationCounts as Counts
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.run_record import read_record

TABLE = "summary.csv"
MERGED = "merged"
"""Status, in a sweep's table, of a job that another one's run stands for."""
UNENDED = ("waiting", "not started", "running", "never ended")
"""Statuses of jobs and runs that have not ended, or of which nobody knows."""
EVALUATION_FILES = ("evaluation.json", "results.json")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, if PyYAML was built with it, is ten times faster


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A training run. `arm` is its label in the study, and `iterations` is the last iteration that it recorded.

    Interpolations in `config`, such as `${rollout.max_tokens}`, are not resolved. `changes` has a line for each setting
    that a resume changed; `config` is that of the last part of the run, and `code` that of its plug-ins, by module.
    `objective` is the objective as a formula, empty of runs of earlier versions.
    """

    directory: Path
    arm: str
    seed: int
    config: Mapping[str, object]
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    rows: tuple[Mapping[str, float], ...]
    evaluations: tuple[Counts, ...]
    status: str
    iterations: int
    changes: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that left no finished run. `reason` is the last line of its log, or the error in its `summary.json`."""

    directory: Path
    overrides: str
    status: str
    exit_code: int | None
    reason: str

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended: a run that was killed without a word counts as going on."""
        return self.status not in UNENDED


@dataclass(frozen=True, slots=True)
class MergedJob:
    """A job of a sweep that was not run, because the run in `directory`, of `other` overrides, trains the same.

    Overrides are without the `seed` and without those that all jobs of the sweep share.
    """

    directory: Path
    overrides: str
    other: str
    seed: str


def is_run(directory: Path) -> bool:
    """Whether a training run was started in the directory. Evaluations have a `.hydra/` too, but other result files."""
    if (directory / "metrics.jsonl").is_file():
        return True
    return (directory / ".hydra").is_dir() and not any((directory / name).exists() for name in EVALUATION_FILES)


def run_status(directory: Path) -> str:
    """The status in the run's `summary.json`, or `never ended` if there is none."""
    return str(read_summary(directory).get("status", "never ended"))


def overrides_of(directory: Path) -> tuple[str, ...]:
    """The overrides that were typed for the run.

    Raises:
        ConfigError: its `.hydra/overrides.yaml` is missing or is not YAML.
    """
    content = _yaml(directory, "overrides.yaml")
    return tuple(map(str, content)) if isinstance(content, list) else ()


def read_summary(directory: Path) -> Mapping[str, object]:
    """A run's `summary.json`; empty if there is none."""
    path = directory / "summary.json"
    if not path.exists():
        return {}
    try:
        summary = parsed_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(summary, dict):
        raise ConfigError(f"{path}: not the summary of a run")
    return summary


def read_run(directory: Path) -> StudyRun:
    """The run, labelled by the chosen `arm`, or else `algo`, alone.

    Raises:
        ConfigError: a file of the run is missing or cannot be read.
    """
    config = _mapping(directory, "config.yaml")
    choices = _choices(directory)
    rows = _rows(directory)
    record = read_record(directory)
    return StudyRun(
        directory=directory,
        arm=_chosen(directory, choices),
        seed=_seed(directory, config),
        config=config,
        overrides=overrides_of(directory),
        choices=choices,
        rows=rows,
        evaluations=tuple(_evaluations(directory)),
        status=run_status(directory),
        iterations=int(max((row["iteration"] for row in rows), default=0)),
        changes=() if record is None else tuple(record.changes),
        code=record.starts[-1].code if record is not None and record.starts else {},
        objective=read_objective(directory),
    )


def last_message(directory: Path) -> str:
    """The last line of `output.log`, or the error in `summary.json`, or a sentence that says that there is neither."""
    log = directory / "output.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    error = read_summary(directory).get("error")
    return lines[-1].strip() if lines else str(error) if error else "no log and no error: still running, or killed"


def _seed(directory: Path, config: Mapping[str, object]) -> int:
    seed = config.get("seed", read_summary(directory).get("seed", 0))
    try:
        return int(str(seed))
    except ValueError as error:
        raise ConfigError(f"{directory / '.hydra/config.yaml'}: seed is {seed!r}, not a whole number") from error


def _rows(directory: Path) -> tuple[Mapping[str, float], ...]:
    try:
        rows = RunFiles(directory).rows()
    except ValueError as error:
        raise ConfigError(f"{error}; remove the line, or leave the run out") from error
    for before, after in pairwise(rows):
        if after["iteration"] <= before["iteration"]:
            order = f"iteration {after['iteration']} follows iteration {before['iteration']}"
            raise ConfigError(f"{directory / 'metrics.jsonl'}: {order}; the file was edited or written by two runs")
    return tuple(rows)


def _chosen(directory: Path, choices: Mapping[str, str]) -> str:
    chosen = choices.get("arm") or choices.get("algo")
    if not chosen:
        raise ConfigError(f"{directory / '.hydra/hydra.yaml'} records neither arm= nor algo=: not a run of train.py")
    return chosen.rsplit("/")[-1]  # arm=paper/dpo is the arm dpo at another size


def _choices(directory: Path) -> dict[str, str]:
    node = _mapping(directory, "hydra.yaml")
    for key in ("hydra", "runtime", "choices"):
        inner = node.get(key)
        node = inner if isinstance(inner, dict) else {}
    return {str(group): str(choice) for group, choice in node.items() if choice is not None}


def _mapping(directory: Path, name: str) -> dict:
    content = _yaml(directory, name)
    return content if isinstance(content, dict) else {}


def _yaml(directory: Path, name: str) -> object:
    path = directory / ".hydra" / name
    if not path.exists():
        raise ConfigError(f"{path} is missing, which the report needs; copy the run with its .hydra/")
    try:
        return yaml.load(read_regular(path), _LOADER)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _evaluations(directory: Path) -> Iterable[Counts]:
    """In order; only the last line of each iteration and set counts, because a resume may have written it again."""
    path = directory / "evaluations.jsonl"
    try:
        counts = RunFiles(directory).evaluations()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: rows need iteration, set, samples, prompts and correct ({error})") from error
    for of_set in counts:
        numbers = (of_set.iteration, of_set.samples, *of_set.correct)
        if any(type(number) is not int for number in numbers) or not of_set.correct or not _possible(of_set):
            raise ConfigError(f"{path}: iteration {of_set.iteration} counts other than 0 to `samples` correct ones")
    return {(of_set.iteration, str(of_set.set)): of_set for of_set in counts}.values()


def _possible(counts: Counts) -> bool:
    return counts.samples >= 1 and min(counts.correct) >= 0 and max(counts.correct) <= counts.samples


def run_directories(directories: Iterable[Path]) -> list[Path]:
    """The run directories at any depth, each once."""
    runs = (path for top in directories for path in _walk(top) if is_run(path))
    return list({path.resolve(): path for path in runs}.values())


def failed_jobs(directories: Iterable[Path], runs: Collection[Path]) -> tuple[FailedJob, ...]:
    """Runs whose status is not `done`, and jobs of sweeps that left no run, each once.

    A run's own summary takes precedence over the sweep's table where that says only that the job waits or is done,
    because a run can be resumed after the sweep.
    """
    unfinished = {run.resolve(): _unfinished(run) for run in runs if run_status(run) != "done"}
    done = {run.resolve() for run in runs} - unfinished.keys()
    of_sweeps = {job.directory.resolve(): job for top in directories for job in _sweep_jobs(top)}
    of_sweeps = {place: job for place, job in of_sweeps.items() if job.has_ended or place not in unfinished}
    failed = {place: job for place, job in (unfinished | of_sweeps).items() if place not in done}
    return tuple(failed[place] for place in sorted(failed))


def _unfinished(run: Path) -> FailedJob:
    try:
        overrides = " ".join(overrides_of(run))
    except ConfigError as error:  # the run may have been killed before or while they were written
        overrides = str(error)
    return FailedJob(run, overrides, run_status(run), None, last_message(run))


def _walk(top: Path) -> Iterator[Path]:
    """`top` and the directories below it, except those inside runs, where there are no further runs."""
    for place, names, _ in os.walk(top):
        path = Path(place)
        names[:] = [] if is_run(path) else sorted(name for name in names if not name.startswith("."))
        yield path


def _sweep_jobs(top: Path) -> Iterator[FailedJob]:
    """Every job of the sweeps under `top`, but those for which another's run stands. A job that the table calls done
    counts as failed if its run is missing."""
    for path, rows in _tables(top):
        for number, row in enumerate(rows, 1):
            if {"overrides", "status", "exit_code", "directory"} <= row.keys() and row["status"] != MERGED:
                try:
                    yield _job(path, row)
                except (TypeError, ValueError) as error:
                    raise ConfigError(f"{path / TABLE}: row {number} is not that of a job") from error


def own_words(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The words of each job without those that all share, but for the choice of its arm or algorithm."""
    shared = set.intersection(*map(set, jobs)) if jobs else set[str]()
    own = [[word for word in job if word not in shared or word.startswith(("algo=", "arm="))] for job in jobs]
    return [" ".join(words or job) for words, job in zip(own, jobs, strict=True)]


def merged_jobs(directories: Iterable[Path]) -> tuple[MergedJob, ...]:
    """The jobs of sweeps that were not run, because another's run stands for them, each once."""
    found: dict[MergedJob, None] = {}
    for path, rows in (table for top in directories for table in _tables(top)):
        own = own_words([[w for w in row.get("overrides", "").split() if not w.startswith("seed=")] for row in rows])
        ran = {row.get("directory"): words for row, words in zip(rows, own, strict=True) if row.get("status") != MERGED}
        for row, words in zip(rows, own, strict=True):
            if row.get("status") == MERGED and (other := ran.get(row.get("directory"))) is not None:
                place = _moved_directory(path, Path(row["directory"]))
                seeds = [word.removeprefix("seed=") for word in row["overrides"].split() if word.startswith("seed=")]
                found[MergedJob(place, words, other, seeds[0] if seeds else row.get("seed") or "")] = None
    return tuple(found)


def _tables(top: Path) -> Iterator[tuple[Path, list[dict[str, str]]]]:
    """The sweeps under `top`, with the rows of their tables."""
    for path in _walk(top):
        table = path / TABLE
        if not table.is_file():
            continue
        try:
            with table.open(encoding="utf-8", newline="") as file:
                yield path, list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise ConfigError(f"{table}: cannot be read ({error})") from error


def _job(sweep: Path, row: dict[str, str]) -> FailedJob:
    directory = _moved_directory(sweep, Path(row["directory"]))
    code = row["exit_code"]
    return FailedJob(directory, row["overrides"], row["status"], int(code) if code else None, _reason(directory))


def _moved_directory(sweep: Path, recorded: Path) -> Path:
    """The recorded directory relative to the sweep's present place, because the sweep may have been moved or copied."""
    below = (sweep.joinpath(*recorded.parts[start:]) for start in range(1, len(recorded.parts)))
    return next((path for path in below if path.is_dir()), recorded)


def _reason(directory: Path) -> str:
    return last_message(directory) if directory.is_dir() else "no run directory"
