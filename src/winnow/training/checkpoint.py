"""Checkpoints at iteration boundaries: written whole or not at all, and checked before they are trusted."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from winnow.experience.metrics import Clock
from winnow.files import replace_text
from winnow.run_logs.run_files import BackgroundWriter

STATE, MANIFEST = "state.ckpt", "manifest.json"


def newest_valid(directory: Path) -> Path | None:
    """The state file of the newest checkpoint under `directory` whose bytes are those that were written.

    Neither torch nor safetensors notices a flipped bit; the manifest's hash does.
    """
    for folder in sorted(directory.glob("iteration_*"), reverse=True):
        if _is_valid(folder):
            return folder / STATE
        print(f"{folder}: incomplete or damaged, passed over")
    return None


def iteration_of(state: Path) -> int:
    return int(state.parent.name.removeprefix("iteration_"))


def _is_valid(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["sha256"] == _sha256(folder / STATE)
    except (OSError, ValueError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class IterationCheckpoint(Checkpoint):
    """`checkpoints/iteration_000010/` every so many iterations and at the end; the newest `keep` stay.

    Being a `Checkpoint`, Lightning runs it after all other callbacks of an epoch's end, so the counters are up to date.
    """

    def __init__(self, directory: Path, every: int, keep: int, clock: Clock, later: BackgroundWriter) -> None:
        self.directory, self.every, self.keep, self.clock, self.later = directory, every, keep, clock, later

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        iteration = trainer.datamodule.progress.iteration  # pyright: ignore[reportAttributeAccessIssue]
        if iteration % self.every == 0 or iteration == trainer.max_epochs or trainer.should_stop:
            with self.clock.of("checkpoint"):
                self.later.wait()  # no checkpoint of an iteration whose row is not on disk
                self.save(trainer, iteration)

    def save(self, trainer: pl.Trainer, iteration: int) -> None:
        """All ranks take part in Lightning's dump; the first writes and renames."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.directory / STATE)
            return
        write_checkpoint(self.directory, iteration, trainer.save_checkpoint)
        delete_old(self.directory, self.keep)


def write_checkpoint(directory: Path, iteration: int, save: Callable[[Path], object]) -> Path:
    """A temporary folder beside the others, complete with its manifest, then one rename."""
    final = directory / f"iteration_{iteration:06d}"
    temporary = directory / f".tmp-{final.name}"
    for leftover in [*directory.glob(".tmp-*"), *directory.glob(".del-*")]:  # of a run that was killed
        shutil.rmtree(leftover)
    temporary.mkdir(parents=True)
    save(temporary / STATE)
    manifest = {"schema": 1, "iteration": iteration, "sha256": _sha256(temporary / STATE)}
    replace_text(temporary / MANIFEST, json.dumps(manifest))
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    return final


def delete_old(directory: Path, keep: int) -> None:
    for old in sorted(directory.glob("iteration_*"))[:-keep]:
        # Renamed first: a half-deleted folder must not look like a checkpoint.
        os.replace(old, doomed := old.with_name(f".del-{old.name}"))
        shutil.rmtree(doomed)


class SyncedCheckpointIO(TorchCheckpointIO):
    """Lightning's own writer goes through $TMPDIR, which tears files when that is another file system."""

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
