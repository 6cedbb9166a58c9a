"""Checkpoints at iteration boundaries, written atomically and verified by hash before they are loaded."""

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
    """The state file of the newest intact checkpoint under `directory`, None if there is none.

    A checkpoint is intact if its SHA-256 is that of the manifest: neither torch nor safetensors notices a flipped bit.
    """
    for folder in sorted(directory.glob("iteration_*"), reverse=True):
        if _is_valid(folder):
            return folder / STATE
        print(f"{folder}: incomplete or damaged, skipped")
    return None


def iteration_of(state: Path) -> int:
    """The iteration after which the state file `state` was written."""
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
    """Callback that writes `checkpoints/iteration_000010/` every `every` iterations and at the end.

    The newest `keep` checkpoints are kept.

    It derives from `Checkpoint` because Lightning runs such callbacks after all others, when the counters are up to
    date.
    """

    def __init__(self, directory: Path, every: int, keep: int, clock: Clock, writer: BackgroundWriter) -> None:
        self.directory, self.every, self.keep, self.clock, self.writer = directory, every, keep, clock, writer

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        iteration = trainer.datamodule.progress.iteration  # pyright: ignore[reportAttributeAccessIssue]
        if iteration % self.every == 0 or iteration == trainer.max_epochs or trainer.should_stop:
            with self.clock.of("checkpoint"):
                self.writer.wait()  # so that metrics.jsonl is never behind a checkpoint
                self.save(trainer, iteration)

    def save(self, trainer: pl.Trainer, iteration: int) -> None:
        """Save the state after `iteration`. All ranks take part in collecting it; the first writes the files."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.directory / STATE)
            return
        write_checkpoint(self.directory, iteration, trainer.save_checkpoint)
        delete_old(self.directory, self.keep)


def write_checkpoint(directory: Path, iteration: int, save: Callable[[Path], object]) -> Path:
    """Write a checkpoint and its manifest into a temporary folder, rename that to its final name and return it."""
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
    """Delete all but the newest `keep` checkpoints."""
    for old in sorted(directory.glob("iteration_*"))[:-keep]:
        # Renamed first, so that a folder whose deletion was interrupted does not look like a checkpoint.
        os.replace(old, doomed := old.with_name(f".del-{old.name}"))
        shutil.rmtree(doomed)


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
