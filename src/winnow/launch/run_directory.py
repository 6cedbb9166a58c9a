"""Directory of a run or sweep: who writes it, what it holds, and whether what it holds can be continued."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from winnow.config.saved_runs import FOLDER, read_saved_run
from winnow.errors import ConfigError
from winnow.run_logs.directory_lock import LOCK, DirectoryLock, Held, Holder, holder_of
from winnow.run_logs.run_files import RunFiles, checkpoint_folders
from winnow.run_logs.run_record import RECORD, new_record, read_record, write_record

CHECKPOINTS = "checkpoints/iteration_*/manifest.json"
"""Glob pattern, inside a run directory, of what a training run must have left to be resumed."""
LEFT_BY_RUNS = (
    f"{FOLDER}/overrides.yaml",
    "metrics.jsonl",
    "evaluations.jsonl",
    "hashes.jsonl",
    "checkpoints",
    "samples",
    "summary.json",
    "evaluation.json",
    "results.json",
)
"""Files and folders any of which shows that a directory holds a run, or an evaluation."""
SWEEP_TABLES = ("multirun.yaml", "summary.csv")


@contextmanager
def run_directory(directory: Path, program: str, resumed: bool) -> Iterator[None]:
    """Context in which this process alone writes `directory`, which is made, and gets a record unless it is `resumed`.

    Raises:
        ConfigError: another process writes there, another run is there, or it cannot be written.
    """
    if not resumed:
        if (holder := holder_of(directory)) is not None:
            raise _live(f"hydra.run.dir={directory}", holder)
        refuse_occupied(directory)
    with ExitStack() as stack:
        try:
            _lock(directory, stack)
        except Held as held:
            raise _live(f"{'resume' if resumed else 'hydra.run.dir'}={directory}", held.holder) from None
        if not resumed:
            refuse_occupied(directory)  # once more, now that nobody else can begin a run there
            write_record(directory, new_record(program))
        yield


def _live(name: str, holder: Holder | None) -> ConfigError:
    return ConfigError(
        f"{name}: a run is going on there ({holder or 'of a process that is just starting'}); wait for it to end, or "
        "choose another directory"
    )


def refuse_occupied(directory: Path) -> None:
    """Check that a new run may be written to `directory`.

    Raises:
        ConfigError: it holds another one.
    """
    if holds_run(directory):
        raise ConfigError(
            f"hydra.run.dir={directory}: holds another run already; type resume={directory} to continue that, or "
            "choose another hydra.run.dir"
        )


@contextmanager
def sweep_directory(top: Path) -> Iterator[int]:
    """Context in which this sweep alone writes `top`; yields the descriptor of its lock.

    Jobs inherit the descriptor and with it the lock, which is held until the last of them ends, even if the sweep is
    killed.

    Raises:
        ConfigError: another sweep, or a job of one that was killed, runs there, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            lock = _lock(top, stack)
        except Held:
            raise ConfigError(
                f"{top}: another sweep, or a job of a sweep that was killed, is running here; wait for it to end, "
                "or choose another hydra.sweep.dir"
            ) from None
        yield lock.descriptor


def refuse_unwritable(top: Path) -> None:
    """Check that a sweep may make its directory `top`, without making it.

    Raises:
        ConfigError: a file is in the way, or the folder that would hold it cannot be written.
    """
    there = next(place for place in (top, *top.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "cannot be written" if there.is_dir() else "is no directory"
        raise ConfigError(f"hydra.sweep.dir={top}: {there} {why}; choose another directory")


def refuse_occupied_sweep(top: Path) -> None:
    """Check that a launcher that cannot continue a sweep may start one in `top`.

    Raises:
        ConfigError: it holds a sweep, or runs.
    """
    runs = (path for path in top.glob("*") if path.is_dir() and holds_run(path))
    if any((top / name).exists() for name in SWEEP_TABLES) or next(runs, None) is not None:
        raise ConfigError(
            f"{top}: holds a sweep already, which only hydra/launcher=processes continues; choose another "
            "hydra.sweep.dir"
        )


def _lock(directory: Path, stack: ExitStack) -> DirectoryLock:
    """Make `directory` if it does not exist, and lock it for as long as `stack` lasts.

    Raises:
        ConfigError: it cannot be written.
        Held: another process holds the lock.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(DirectoryLock(directory))
    except OSError as error:
        with suppress(OSError):  # it was made just now, or holds something
            directory.rmdir()
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); choose another directory") from error


def holds_run(directory: Path) -> bool:
    """Whether a run or an evaluation was begun in `directory`, by whatever it has left."""
    return any((directory / name).exists() for name in LEFT_BY_RUNS)


def has_trace(directory: Path, trace: str) -> bool:
    """Whether `directory` holds what the glob pattern `trace` names; a checkpoint needs its exact name."""
    if trace == CHECKPOINTS:
        return bool(checkpoint_folders(directory / "checkpoints"))
    return next(directory.glob(trace), None) is not None


def can_begin_again(directory: Path, program: str) -> bool:
    """Whether `directory` holds a run of `program` that ended before it had saved anything, so that nothing is lost."""
    if not (directory / FOLDER / "overrides.yaml").is_file() or program_in(directory) != program:
        return False
    summary = RunFiles(directory).read_summary()
    status, iterations = summary.get("status"), summary.get("iterations")
    # A run that a signal ended has saved what it did: if no checkpoint is there, somebody has removed it.
    return status != "done" and not (status in ("preempted", "interrupted") and iterations)


def was_cut_short(directory: Path) -> bool:
    """Whether the run in `directory` was ended from outside, and did not end by itself."""
    return RunFiles(directory).read_summary().get("status") in (None, "running", "preempted", "interrupted")


def program_in(directory: Path) -> str | None:
    """The name of the program whose run is in `directory`, such as train; None if that cannot be read."""
    record = read_record(directory)
    if record is not None:
        return record.program
    try:
        return str(read_saved_run(directory).hydra.job.name)
    except ConfigError:
        return None


def remove_if_bare(directory: Path) -> None:
    """Remove a run directory in which only Hydra and the start have written, and its parents while they are empty."""
    if not is_first_rank() or not directory.is_dir():
        return
    if any(entry.name not in (FOLDER, LOCK, RECORD) for entry in directory.iterdir()):
        return
    shutil.rmtree(directory)
    for parent in directory.parents:
        if Path.cwd() not in parent.parents or parent.is_mount() or any(parent.iterdir()):
            return
        parent.rmdir()


def is_first_rank() -> bool:
    """Whether this is the first rank by the environment; the others are started by it, in its directory."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
