"""Directory of a run or sweep: who writes it, what it holds, and whether what it holds can be continued."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from winnow.config.saved_runs import FOLDER, read_saved_run
from winnow.errors import ConfigError
from winnow.process_group import is_first_rank
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
BEFORE_A_RUN = (FOLDER, LOCK, RECORD, "output.log")
"""Files that may lie in the directory of a new run: of a start that was refused, and the log of a sweep."""
SHOWN = 3
"""Number of files in the way that a refusal names."""


@contextmanager
def run_directory(directory: Path, program: str, resumed: bool) -> Iterator[None]:
    """Context in which this process alone writes `directory`, which is made, and gets a record unless it is `resumed`.

    Raises:
        ConfigError: another process writes there, another run is there, or it cannot be written.
    """
    if not resumed:
        refuse_taken(directory)
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


def refuse_taken(directory: Path) -> None:
    """Check that a new run may be written to `directory`, and that none is going on there.

    Raises:
        ConfigError: as `refuse_occupied`, or another process writes there.
    """
    if (holder := holder_of(directory)) is not None:
        raise _live(f"hydra.run.dir={directory}", holder)
    refuse_occupied(directory)


def refuse_occupied(directory: Path) -> None:
    """Check that a new run may be written to `directory`.

    Raises:
        ConfigError: it cannot be written, or holds another run, or files that are no run's.
    """
    refuse_unwritable(directory, "hydra.run.dir")
    if holds_run(directory):
        raise ConfigError(
            f"hydra.run.dir={directory}: holds another run already; type resume={directory} to continue that, or "
            "choose another hydra.run.dir"
        )
    _refuse_foreign(directory, "hydra.run.dir", BEFORE_A_RUN)


def _refuse_foreign(directory: Path, key: str, known: Sequence[str]) -> None:
    """Refuse a directory that holds other files than the `known` ones: those of a run would lie among them."""
    others = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    others = [name for name in others if name not in known]
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise ConfigError(
            f"{key}={directory}: holds {', '.join(others[:SHOWN])}{more}, which no run wrote; type the name of a new "
            f"directory, such as {key}={directory / 'NAME'}"
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


def refuse_unwritable(top: Path, key: str) -> None:
    """Check that the directory `top` that the setting `key` names may be made, without making it.

    Raises:
        ConfigError: a file is in the way, or the folder that would hold it cannot be written.
    """
    there = next(place for place in (top, *top.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "cannot be written" if there.is_dir() else "is no directory"
        raise ConfigError(f"{key}={top}: {there} {why}; choose another directory")


def refuse_foreign_sweep(top: Path) -> None:
    """Check that the directory of a sweep holds no files but those of a sweep: the table of its jobs among them.

    Raises:
        ConfigError: it holds others.
    """
    if any((top / name).exists() for name in SWEEP_TABLES) or not top.is_dir():
        return
    folders = [entry.name for entry in top.iterdir() if entry.is_dir()]  # its jobs look after theirs
    _refuse_foreign(top, "hydra.sweep.dir", (LOCK, *folders))


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
