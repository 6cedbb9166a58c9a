"""A training run in its directory: start or resume, train, and leave summary, curves and the exported model."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch

from winnow.errors import PREEMPTED, ConfigError, Diverged, Stopped
from winnow.evaluation.sets import HeldOutEvaluator
from winnow.experience.batching import Plan
from winnow.experience.loader import ExperienceLoader, ExperienceSource
from winnow.experience.metrics import Clock
from winnow.models.language_model import LanguageModel, export_model, fingerprint
from winnow.run_logs.console import RunConsole
from winnow.run_logs.curves import draw_run
from winnow.run_logs.model_card import model_card
from winnow.run_logs.run_files import BackgroundWriter, RunFiles, Status, Summary
from winnow.run_logs.tracker import RunInfo, Tracker
from winnow.training.callbacks import IterationBookkeeping, StopOnSignal
from winnow.training.checkpoint import IterationCheckpoint, SyncedCheckpointIO, iteration_of, newest_valid
from winnow.training.modules import IterationModule
from winnow.training.progress import IterationData, RunBudget


@dataclass(frozen=True, slots=True)
class Hardware:
    """Lightning's settings of device, number of processes, strategy and precision."""

    accelerator: str
    devices: int
    strategy: str
    precision: Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True, slots=True)
class Intervals:
    """The length of a run, at most `iterations` within `budget`, and the intervals of evaluations and checkpoints.

    The model is evaluated every `evaluate` iterations (0: only before and after training) and saved every `save`
    iterations; the newest `keep` checkpoints are kept.
    """

    iterations: int
    budget: RunBudget
    evaluate: int
    save: int
    keep: int


class Run:
    """A training run whose objects are all built; `fit` trains."""

    def __init__(
        self,
        directory: Path,
        info: RunInfo,
        hardware: Hardware,
        intervals: Intervals,
        language_model: LanguageModel,
        module: IterationModule,
        source: ExperienceSource,
        plan: Plan,
        evaluator: HeldOutEvaluator,
        tracker: Tracker,
        lines: Sequence[str],
    ) -> None:
        self.directory, self.info, self.intervals = directory, info, intervals
        self.language_model, self.module, self.tracker, self.lines = language_model, module, tracker, lines
        self.files = RunFiles(directory)
        self.console = RunConsole(intervals.iterations, terminal=None if is_first_rank() else False)
        self.clock, self.writer, self.signals = Clock(), BackgroundWriter(), StopOnSignal()
        self.data = IterationData(ExperienceLoader(source, plan, self.clock, self._collecting))
        self.resumed_from: int | None = None
        self.verifiers = evaluator.verifiers()
        self.bookkeeping = IterationBookkeeping(
            evaluator,
            intervals.evaluate,
            intervals.budget,
            self.files,
            tracker,
            self.console,
            self.clock,
            self.writer,
            self._collecting,
        )
        self.trainer = self._trainer(hardware)

    def fit(self, resume: bool) -> float | None:
        """Train to the last iteration, or until the budget is used up, and return the final held-out accuracy.

        Raises:
            ConfigError: there is nothing to resume, or `iterations` is less than what is done.
            Diverged: the gradients were not finite in several consecutive updates, or samples were not of the policy.
            Stopped: a signal ended the run; a checkpoint is saved.
        """
        checkpoint = newest_valid(self.directory / "checkpoints") if resume else None
        if resume and checkpoint is None:
            raise ConfigError(f"resume={self.directory}: no intact checkpoint; type another run, or start a new one")
        tracker_id = self._checked_tracker_id(checkpoint)
        self.resumed_from = None if checkpoint is None else iteration_of(checkpoint)
        if self.resumed_from is not None and self.resumed_from > self.intervals.iterations:
            raise ConfigError(
                f"iterations={self.intervals.iterations}: {self.directory} has done {self.resumed_from}; "
                f"iterations is a total, so type iterations={self.resumed_from + 1} or more"
            )
        with self.console:
            resuming = [] if checkpoint is None else [f"resuming after iteration {self.resumed_from}"]
            for line in [*self.lines, *resuming] if is_first_rank() else []:
                self.console.say(line)
            self._open_tracker(tracker_id)
            if self.trainer.is_global_zero:
                # Replaces the "done" of a run that is extended.
                self.files.write_summary(self._summary("running", None))
            status, error = self._fit(checkpoint)
            self._finish(status, error)
        if isinstance(error, BaseException):
            raise error
        return self.data.progress.eval_last

    def _fit(self, checkpoint: Path | None) -> tuple[Status, BaseException | None]:
        try:
            try:
                self.trainer.fit(self.module, self.data, ckpt_path=checkpoint, weights_only=True)
            finally:
                self.writer.wait()
        except Diverged as error:
            return "diverged", error
        except BaseException as error:
            # `fit` raises it again once `_finish` has recorded it in summary.json and at the tracker.
            return "failed", error
        # A signal during the last iteration has not cut the run short.
        complete = self.bookkeeping.spent or self.data.progress.iteration == self.intervals.iterations
        if self.signals.code is None or complete:
            return "done", None
        return ("preempted" if self.signals.code == PREEMPTED else "interrupted"), Stopped(self.signals.code)

    def _finish(self, status: Status, error: BaseException | None) -> None:
        if not self.trainer.is_global_zero:
            return
        progress, summary = self.data.progress, self._summary(status, error)
        if progress.iteration > 0:
            self.console.say(f"curves: {draw_run(self.directory)}")
        if status == "done":
            card = model_card(summary, self.info.config, self.files.rows())
            export_model(self.language_model, self.directory / "export", card)
            self.console.say(
                f"held-out accuracy {_percent(progress.eval_first)} -> {_percent(progress.eval_last)} "
                f"in {progress.seconds:.0f} s; model: {self.directory / 'export'}"
            )
        if status in ("preempted", "interrupted"):
            self.console.say(f"saved after iteration {progress.iteration}; to continue, type resume={self.directory}")
        self.files.write_summary(summary)  # last, so that "done" means that all other files are there
        self.tracker.finish(summary, failed=status in ("failed", "diverged"))

    def _summary(self, status: Status, error: BaseException | None) -> Summary:
        info = self.info
        return replace(
            self.data.progress.summary(status, info.algo, info.model, info.dataset, info.seed),
            prompt_hash=info.prompt_hash,
            verifiers=self.verifiers,
            error=None if error is None else f"{type(error).__name__}: {error}",
            resumed_from=self.resumed_from,
        )

    def _checked_tracker_id(self, checkpoint: Path | None) -> str | None:
        """The tracker's id in the checkpoint, after a check that the run began with the weights that are loaded now.

        KL and DPO terms are relative to the initial model, which is not in the checkpoint but loaded anew.
        """
        mine = fingerprint(self.language_model.model)
        self.data.note(initial_weights=mine, prompt_hash=self.info.prompt_hash, verifiers=self.verifiers)
        if checkpoint is None:
            return None
        state = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)[IterationData.__qualname__]
        if state["initial_weights"] != mine:
            raise ConfigError(
                f"resume={self.directory}: the run began with other weights than model {self.info.model} holds now; "
                "set model.path to the weights it began with, or start a new run"
            )
        return state["tracker_id"]

    def _open_tracker(self, kept: str | None) -> None:
        if self.trainer.is_global_zero:
            self.data.note(tracker_id=self.tracker.start(self.directory, self.info, kept))

    def _trainer(self, hardware: Hardware) -> pl.Trainer:
        c = self.intervals
        return pl.Trainer(
            max_epochs=c.iterations,
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            strategy=hardware.strategy,
            precision=hardware.precision,
            callbacks=[
                self.signals,
                self.bookkeeping,
                IterationCheckpoint(self.directory / "checkpoints", c.save, c.keep, self.clock, self.writer),
            ],
            plugins=[SyncedCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )

    def _collecting(self) -> AbstractContextManager:
        """The precision context of `training_step`, for sampling and scoring outside of it."""
        return self.trainer.precision_plugin.forward_context()


def is_first_rank() -> bool:
    """Whether this is the first rank by the environment, which says so before Lightning has connected the ranks."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
