"""Checkpoints at iteration boundaries, written atomically and verified by hash before they are loaded.

A checkpoint is a folder `iteration_000010` with the state of the run and a manifest: the run's id, the iteration, the
SHA-256 of the state, the tensors in it that are not finite, and a SHA-256 of these entries. A checkpoint is intact if
the state is the manifest's, belongs to the run and is finite; only intact ones are loaded, and only they count when
older ones are deleted.
"""

import copy
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from winnow import distributed
from winnow.errors import ConfigError, Stopped
from winnow.experience.metrics import Clock
from winnow.files import flush_to_disk, parsed_json, regular_file, replace_text, sha256_of
from winnow.finite import nonfinite_names
from winnow.models.sharding import is_sharded
from winnow.run_logs.background_writer import BackgroundWriter
from winnow.run_logs.run_files import RunFiles, checkpoint_folders, iteration_in
from winnow.tensor_files import read_tensors
from winnow.training import sharded_state
from winnow.training.progress import RunProgress

STATE, MANIFEST = "state.ckpt", "manifest.json"
TEMPORARY = re.compile(r"\.(tmp|del)-iteration_[0-9]+")
MANIFEST_BYTES = 1 << 20
"""Size above which a manifest is not read: its list of tensors is the only part that grows, with the model's layers."""
ENTRIES = {"schema", "run", "iteration", "sha256", "nonfinite", "check"}
ENTRIES_OF_EARLIER = {"schema", "iteration", "sha256"}

State = Mapping[str, Any]


class Damaged(Exception):
    """A folder with the name of a checkpoint that cannot be used; the message says why."""


def newest_valid(directory: Path, run: str | None = None) -> Path | None:
    """The state file of the newest intact checkpoint under `directory`, None if there is none.

    The others that are newer are named on standard output. Where the id `run` is given, a checkpoint of another run is
    not used; one of an earlier version has no id and is.
    """
    for folder in reversed(checkpoint_folders(directory)):
        try:
            read_manifest(folder, run)
        except Damaged as damage:
            print(f"{folder}: {damage}, skipped", flush=True)
        else:
            return folder / STATE
    return None


def iteration_of(state: Path) -> int:
    """The iteration after which the state file `state` was written."""
    return iteration_in(state.parent)


def read_manifest(folder: Path, run: str | None = None, hashed: bool = True) -> dict[str, object]:
    """The manifest of an intact checkpoint, whose state file is read whole for its hash if it is to be `hashed`.

    Neither torch nor safetensors notices a flipped bit by itself.

    Raises:
        Damaged: the checkpoint is not intact, or it belongs to another run than `run`.
    """
    manifest = _manifest_in(folder)
    if manifest.get("iteration") != iteration_in(folder):
        raise Damaged(f"is a copy of the checkpoint of iteration {manifest.get('iteration')}")
    if run is not None and manifest.get("run") not in (None, run):
        raise Damaged(f"belongs to another run ({manifest['run']}, not {run})")
    try:
        if hashed and state_sha256(folder / STATE) != manifest["sha256"]:
            raise Damaged("incomplete or damaged (its state is not that of the manifest)")
    except OSError as error:
        raise Damaged("incomplete or damaged (no readable state)") from error
    if manifest.get("nonfinite"):
        raise Damaged(f"holds numbers that are not finite ({manifest['nonfinite']})")
    return manifest


def _manifest_in(folder: Path) -> dict[str, object]:
    try:
        manifest = parsed_json(regular_file(folder / MANIFEST, MANIFEST_BYTES).read_bytes())
    except (OSError, ValueError) as error:
        raise Damaged("incomplete or damaged (no readable manifest)") from error
    if not isinstance(manifest, dict):
        raise Damaged("incomplete or damaged (its manifest is not as it was written)")
    entries = set(manifest)
    if entries != ENTRIES_OF_EARLIER and (entries != ENTRIES or manifest["check"] != _check(manifest)):
        raise Damaged("incomplete or damaged (its manifest is not as it was written)")
    return manifest


def _check(manifest: Mapping[str, object]) -> str:
    """SHA-256 of a manifest's other entries."""
    others = {name: value for name, value in manifest.items() if name != "check"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def state_sha256(state: Path) -> str:
    """SHA-256 of a state file, or of the names and hashes of the files of a sharded state's folder.

    Raises:
        OSError: a file of it is missing, no regular file, or cannot be read.
    """
    if not state.is_dir() or state.is_symlink():
        return sha256_of(regular_file(state))
    digest = hashlib.sha256()
    for file in sorted(state.iterdir()):
        digest.update(f"{file.name} {sha256_of(regular_file(file))}\n".encode())
    return digest.hexdigest()


def nonfinite_tensors(state: State) -> list[str]:
    """The dotted names of all tensors in a checkpoint's state with a NaN or an infinity: weights and moments."""
    return nonfinite_names(_tensors(state, ""))


def _tensors(node: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor) and node.is_floating_point():
        yield name, node
    elif isinstance(node, Mapping):
        for key, inner in node.items():
            yield from _tensors(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for number, inner in enumerate(node):
            yield from _tensors(inner, f"{name}.{number}".lstrip("."))


def load_state(path: Path) -> State:
    """The state in a checkpoint, mapped from the disk on the CPU. It cannot run code, as pickles can.

    That of a sharded run, a folder, is put together in main memory.

    Raises:
        ConfigError: it is not a file that a run wrote.
    """
    try:
        state = sharded_state.whole_state(path) if path.is_dir() else read_tensors(path, mmap=True)
    except (ValueError, KeyError, pickle.UnpicklingError) as error:
        raise _refusal(path) from error
    if not isinstance(state, dict) or not {"state_dict", "optimizer_states"} <= state.keys():
        raise _refusal(path)
    return state


def outline(path: Path) -> State:
    """The state in a checkpoint, of a sharded run without its tensors: weights have shapes and no memory.

    Raises:
        ConfigError: it is not what a run wrote.
    """
    if not path.is_dir():
        return load_state(path)
    try:
        return sharded_state.outline(path)
    except (ValueError, KeyError, pickle.UnpicklingError) as error:
        raise _refusal(path) from error


def _refusal(path: Path) -> ConfigError:
    return ConfigError(f"{path}: not the state of a run; delete its folder, so that an earlier one is used")


class IterationCheckpoint(Checkpoint):
    """Callback that writes `checkpoints/iteration_000010/` every `every` iterations and at the end.

    The newest `keep` intact checkpoints are kept, or all of them if that is None. With `keep_best` so is that with the
    highest held-out accuracy, which is also written where none is due. `run` is the run's id.

    It derives from `Checkpoint` because Lightning runs such callbacks after all others, when the counters are up to
    date. If a signal makes the run leave an iteration before its first update, the state after the one before it is
    saved.
    """

    def __init__(
        self,
        directory: Path,
        every: int,
        keep: int | None,
        keep_best: bool,
        clock: Clock,
        writer: BackgroundWriter,
        run: str | None,
    ) -> None:
        self.directory, self.every, self.keep, self.keep_best = directory, every, keep, keep_best
        self.clock, self.writer, self.run = clock, writer, run
        self._saved = 0
        self._boundary: State | None = None  # Lightning's counters after the last iteration

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = _iteration(trainer)  # where a resume has begun

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        iteration = _iteration(trainer)
        self._boundary = _lightning_counters(trainer)
        is_best = self.keep_best and _progress(trainer).best == iteration
        if iteration % self.every == 0 or iteration == trainer.max_epochs or trainer.should_stop or is_best:
            with self.clock.of("checkpoint"):
                self.writer.wait()  # so that metrics.jsonl is never behind a checkpoint
                self.save(trainer, iteration)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save the state after the last iteration if a signal has ended the run in the one after that."""
        if isinstance(exception, Stopped) and self._boundary is not None and _iteration(trainer) > self._saved:
            self.writer.wait()
            self.save(trainer, _iteration(trainer))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning has begun to count the iteration that is left; weights and moments have not changed yet.
        if self._boundary is not None:
            checkpoint |= self._boundary

    def save(self, trainer: pl.Trainer, iteration: int) -> None:
        """Save the state after `iteration`. All ranks take part in collecting it; the first writes the files."""
        self._saved = iteration
        bad = self._nonfinite(trainer)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.directory / STATE)
            return
        # After a power failure a checkpoint without its rows, or without its configuration, could not be resumed.
        RunFiles(self.directory.parent).flush_to_disk()
        written = write_checkpoint(
            self.directory,
            iteration,
            trainer.save_checkpoint,
            self.run,
            lambda path: nonfinite_tensors(load_state(path)) if bad is None else bad,
        )
        if self.keep is not None:
            best = _progress(trainer).best if self.keep_best else None
            delete_old(self.directory, self.keep, self.run, written, best)

    def _nonfinite(self, trainer: pl.Trainer) -> list[str] | None:
        """The tensors of a sharded state that are not finite on some rank; None for one that can be read back whole."""
        if not is_sharded(trainer.lightning_module):
            return None
        module, optimizer = trainer.lightning_module, trainer.optimizers[0]
        own = {**sharded_state.trained(module), **sharded_state.moments(module, optimizer)}
        mine = nonfinite_names((name, distributed.local(tensor)) for name, tensor in own.items())
        return sorted({name for names in distributed.all_gather(mine) for name in names})


def _progress(trainer: pl.Trainer) -> RunProgress:
    return trainer.datamodule.progress  # pyright: ignore[reportAttributeAccessIssue]


def _iteration(trainer: pl.Trainer) -> int:
    """Iterations that are done."""
    return _progress(trainer).iteration


def _lightning_counters(trainer: pl.Trainer) -> State:
    """The parts of a checkpoint that Lightning counts by."""
    loops = {"fit_loop": trainer.fit_loop.state_dict()}
    return copy.deepcopy({"epoch": trainer.current_epoch, "global_step": trainer.global_step, "loops": loops})


def write_checkpoint(
    directory: Path,
    iteration: int,
    save: Callable[[Path], object],
    run: str | None = None,
    nonfinite: Callable[[Path], list[str]] = lambda state: [],
) -> Path:
    """Write a checkpoint and its manifest into a temporary folder, rename that to its final name and return it.

    `nonfinite` names the tensors of a state file that are not finite. A checkpoint with any stays for whoever looks for
    the reason, but is not intact, which is said on standard output.
    """
    final = directory / f"iteration_{iteration:06d}"
    temporary = directory / f".tmp-{final.name}"
    remove_leftovers(directory)
    try:
        _write_into(temporary, iteration, save, run, nonfinite)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # gives room back on a disk that is full
        raise
    if final.exists():  # damaged, or another run's: a run does not save twice after one iteration
        os.replace(final, final.with_name(f"{final.name}.before_{run}")) if _is_foreign(final, run) else _delete(final)
    os.replace(temporary, final)
    flush_to_disk(directory)
    return final


def _write_into(
    temporary: Path,
    iteration: int,
    save: Callable[[Path], object],
    run: str | None,
    nonfinite: Callable[[Path], list[str]],
) -> None:
    temporary.parent.mkdir(exist_ok=True)  # not the run directory, which was there: if it is gone, that is a failure
    temporary.mkdir()
    save(temporary / STATE)
    found = nonfinite(temporary / STATE)
    if found:
        name = temporary.name.removeprefix(".tmp-")
        print(f"{name}: not finite, so that no run will go on from it: {', '.join(found[:3])}", flush=True)
    manifest = {"schema": 2, "run": run, "iteration": iteration, "sha256": state_sha256(temporary / STATE)}
    manifest |= {"nonfinite": f"{len(found)} tensors, such as {found[0]}" if found else None}
    replace_text(temporary / MANIFEST, json.dumps({**manifest, "check": _check(manifest)}))


def remove_leftovers(directory: Path) -> None:
    """Remove what runs that were killed while they saved or deleted a checkpoint have left under `directory`."""
    for leftover in directory.iterdir() if directory.is_dir() else ():
        if TEMPORARY.fullmatch(leftover.name):
            _remove(leftover)


def delete_old(
    directory: Path, keep: int, run: str | None = None, written: Path | None = None, best: int | None = None
) -> None:
    """Delete all checkpoints before the newest `keep` intact ones but that of iteration `best`; nothing if there are
    not so many.

    Damaged ones among the newer stay: they are not counted, and someone may want to look at them. So do those of
    another run. The state of `written` was hashed just now, and is not read again.
    """
    intact = 0
    for folder in reversed(checkpoint_folders(directory)):
        if intact < keep:
            intact += is_intact(folder, run, hashed=folder != written)
        elif iteration_in(folder) != best and not _is_foreign(folder, run):
            _delete(folder)


def _is_foreign(folder: Path, run: str | None) -> bool:
    """Whether the manifest names another run."""
    try:
        manifest = _manifest_in(folder)
    except Damaged:
        return False
    return run is not None and manifest.get("run") not in (None, run)


def is_intact(folder: Path, run: str | None = None, hashed: bool = True) -> bool:
    """Whether the checkpoint can be loaded and belongs to the run with the id `run`, if that is given.

    Without `hashed` its state is not read, and the manifest believed.
    """
    try:
        read_manifest(folder, run, hashed)
    except Damaged:
        return False
    return True


def _delete(folder: Path) -> None:
    # Renamed first, so that a folder whose deletion was interrupted does not look like a checkpoint.
    os.replace(folder, doomed := folder.with_name(f".del-{folder.name}"))
    _remove(doomed)


def _remove(path: Path) -> None:
    """Remove a folder, or what has its name: a file, or a link."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


class SyncedCheckpointIO(TorchCheckpointIO):
    """Writer of a checkpoint file that goes directly to its path and is flushed to disk.

    Lightning's own writes to $TMPDIR first and moves the file. If that is another file system the move is a copy, which
    can be interrupted half-way.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike,
        storage_options: Any = None,
    ) -> None:
        with open(path, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        if Path(path).is_dir():  # of a sharded run
            return sharded_state.whole_state(Path(path))
        return super().load_checkpoint(path, map_location, weights_only)
