"""A training run in its directory: start or resume, train, and leave summary, curves and the exported model."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor

from winnow import signals
from winnow.data.order import Order
from winnow.errors import PREEMPTED, ConfigError, DiskFailure, Diverged, LostRank, Stopped
from winnow.evaluation.sets import HeldOutEvaluator
from winnow.experience.ahead import Ahead
from winnow.experience.batching import Plan
from winnow.experience.loader import ExperienceLoader, ExperienceSource
from winnow.experience.metrics import Clock
from winnow.files import disk_failure
from winnow.guards.alarms import Alarms
from winnow.guards.fault_file import FaultFiles
from winnow.guards.non_finite import NonFiniteGuard
from winnow.guards.settings import NonFiniteSettings
from winnow.guards.update_check import UpdateCheck
from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, initial_fingerprint
from winnow.process_group import is_first_rank
from winnow.run_logs.background_writer import BackgroundWriter
from winnow.run_logs.console import RunConsole
from winnow.run_logs.curves import draw_run
from winnow.run_logs.disk import Need, Spared
from winnow.run_logs.model_card import model_card
from winnow.run_logs.outcome import outcome_warnings
from winnow.run_logs.run_files import RunFiles, Status, Summary, checkpoint_folders, iteration_in
from winnow.run_logs.run_record import RunRecord
from winnow.run_logs.tracker import RunInfo, Tracker
from winnow.training.callbacks import IterationBookkeeping
from winnow.training.checkpoint import (
    IterationCheckpoint,
    SyncedCheckpointIO,
    is_intact,
    iteration_of,
    newest_valid,
    outline,
    remove_leftovers,
)
from winnow.training.guard_callback import GuardCallback
from winnow.training.hardware import Hardware
from winnow.training.lightning_settings import TrainerSettings
from winnow.training.modules import IterationModule
from winnow.training.peers import Peers
from winnow.training.progress import IterationData, RunBudget
from winnow.training.sharded import whole_model
from winnow.training.stopping import StopOnSignal

CLOSING_SECONDS = 300.0
"""Time that the first rank has for curves, exported model and summary before the other ranks leave."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """The length of a run, at most `iterations` within `budget`, and the intervals of evaluations and checkpoints.

    The model is evaluated every `evaluate` iterations (0: only before and after training) and saved every `save`
    iterations; the newest `keep` checkpoints are kept, or all of them if that is None, and with `keep_best` that with
    the highest held-out accuracy. With `stop`, the run pauses after that iteration as if a signal had come; it is no
    end, so that nothing is evaluated for it.
    """

    iterations: int
    budget: RunBudget
    evaluate: int
    save: int
    keep: int | None
    keep_best: bool
    stop: int | None = None
    patience: int | None = None


class Run:
    """A training run whose objects are all built; `fit` trains.

    `record` identifies the run. `accept` is called with the iteration after which it goes on, once nothing speaks
    against that any more; only then may anything be written. It returns the record with this start.
    """

    def __init__(
        self,
        directory: Path,
        info: RunInfo,
        hardware: Hardware,
        intervals: Intervals,
        language_model: LanguageModel,
        module: IterationModule,
        non_finite: NonFiniteSettings,
        source: ExperienceSource,
        order: Order,
        ahead: Ahead | None,
        plan: Plan,
        evaluator: HeldOutEvaluator,
        tracker: Tracker,
        lines: Sequence[str],
        record: RunRecord,
        accept: Callable[[int], RunRecord],
        check: UpdateCheck,
        alarms: Alarms,
        clock: Clock,
        settings: TrainerSettings,
    ) -> None:
        self.directory, self.info, self.intervals = directory, info, intervals
        self.record, self.accept = record, accept
        self.language_model, self.module, self.tracker, self.lines = language_model, module, tracker, lines
        self.files = RunFiles(directory, record.run)
        has_bar = is_first_rank() and settings.enable_progress_bar
        self.console = RunConsole(intervals.iterations, terminal=None if has_bar else False)
        self.observed = settings.logger()
        self.clock, self.writer = clock, BackgroundWriter()
        self.data = IterationData(ExperienceLoader(source, plan, self.clock, self._collecting), order, ahead)
        self.peers = Peers(self.clock, hardware.timeout, directory)
        self.stopping = StopOnSignal(self.console, self.data, self.peers)
        self.resumed_from: int | None = None
        self.verifiers = evaluator.verifiers()
        self.need = _need(module, language_model, intervals)
        self.curves = Spared("curves", directory, self.console.say)
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
            alarms,
            Spared("samples", directory, self.console.say, reserve=self.need.checkpoint),
            intervals.stop,
            self.observed,
            intervals.patience,
        )
        self.guard = GuardCallback(check, clock, self._collecting)
        faults = FaultFiles(directory, record.run, info.config, non_finite.weights_mb, self._last_checkpoint)
        self.module.guard = NonFiniteGuard(non_finite, faults, self.console.say)
        self.trainer = self._trainer(hardware, settings)

    def fit(self, resume: bool) -> float | None:
        """Train to the last iteration, or until the budget is used up, and return the final held-out accuracy.

        Raises:
            ConfigError: there is nothing to resume, or `iterations` is less than what is done.
            Diverged: a weight was not finite, or numbers of several updates in a row; or samples were not the policy's.
            DiskFailure: the disk has no room, or cannot be written; the last checkpoint is kept.
            LostRank: another rank is gone, or hangs; the last checkpoint is kept.
            Stopped: a signal ended the run; the state after its last iteration is saved.
        """
        with signals.deferred(), signals.answered_by(self.stopping.answer), closing(self.peers):
            return self._fit_and_close(resume)

    def _fit_and_close(self, resume: bool) -> float | None:
        checkpoint = self._checkpoint() if resume else None
        tracker_id = self._checked_tracker_id(checkpoint)
        self.resumed_from = None if checkpoint is None else iteration_of(checkpoint)
        if self.resumed_from is not None and self.resumed_from > self.intervals.iterations:
            raise ConfigError(
                f"iterations={self.intervals.iterations}: {self.directory} has done {self.resumed_from}; "
                f"iterations is a total, so type iterations={self.resumed_from + 1} or more"
            )
        room = self.need.require_room(self.directory) if is_first_rank() else []
        if is_first_rank():
            self.record = self.accept(self.resumed_from or 0)
            remove_leftovers(self.directory / "checkpoints")
            self.files.remove_temporary()
        with self.console:
            resuming = [] if checkpoint is None else [f"resuming after iteration {self.resumed_from}{self._hint()}"]
            again = ["no checkpoint was written before the run ended: beginning again"] if resume else []
            for line in [*self.lines, *room, *(resuming or again)] if is_first_rank() else []:
                self.console.say(line)
            self._open_tracker(tracker_id)
            if self.trainer.is_global_zero:
                # Replaces the "done" of a run that is extended.
                self.files.write_summary(self._summary("running", None))
            error = self._close(*self._fit(checkpoint))
        if error is not None:
            raise error
        return self.data.progress.eval_last

    def _hint(self) -> str:
        """Advice to a resume that finds no iteration left to do, or nothing."""
        is_last = self.resumed_from == self.intervals.iterations
        return ", the last one; to go on, type a larger iterations=" if is_last else ""

    def recompute(self, checkpoint: Path | None) -> None:
        """Train from `checkpoint`, or from the start, to the iteration `stop`; leave metrics, samples and a checkpoint.

        Raises:
            ConfigError: the checkpoint is not of a run that began with these weights.
        """
        self._checked_tracker_id(checkpoint)
        with self.console:
            _, error = self._fit(checkpoint)
        if error is not None:
            raise error

    def _fit(self, checkpoint: Path | None) -> tuple[Status, BaseException | None]:
        try:
            try:
                self.trainer.fit(self.module, self.data, ckpt_path=checkpoint, weights_only=True)
            finally:
                self.writer.wait()
            signals.check()
        except Diverged as error:
            return "diverged", error
        except Stopped as stop:
            return _status_of(stop), stop
        except BaseException as error:
            # `fit` raises it again once `_close` has recorded it in summary.json and at the tracker.
            return "failed", self.peers.failed(self._disk_failure(error) or error)
        return "done", None

    def _close(self, status: Status, error: BaseException | None) -> BaseException | None:
        """Leave curves, exported model and summary; return the error that then ends the run, if any."""
        model = self.language_model
        if status == "done" and model.pending is not None:
            try:
                model = whole_model(model)
            except BaseException as lost:  # of another rank, in the midst of gathering
                status, error = "failed", self.peers.failed(lost)
        if not self.trainer.is_global_zero:
            if error is None or isinstance(error, Diverged | Stopped):  # all ranks end here, and not this one alone
                self.peers.wait_for_first(CLOSING_SECONDS)
            return error
        try:
            return self._close_files(model, status, error)
        finally:
            self.peers.closed()

    def _close_files(self, model: LanguageModel, status: Status, error: BaseException | None) -> BaseException | None:
        """Write curves, exported model and summary, on the first rank."""
        try:
            with signals.immediate():  # what a signal prevents here is made by a resume
                self._draw_and_export(model, status, draws=not isinstance(error, DiskFailure | LostRank))
        except Stopped as stop:
            if status == "done":
                status, error = _status_of(stop), stop
        except BaseException as other:
            status, error = "failed", error or self._disk_failure(other) or other
        progress, summary = self.data.progress, self._summary(status, error)
        if isinstance(error, Stopped):
            saved = f"saved after iteration {progress.iteration}" if progress.iteration else "nothing was computed yet"
            self.console.say(f"{saved}; to continue, type resume={self.directory}")
        try:
            self.files.write_summary(summary)  # last, so that "done" means that all other files are there
        except OSError as unwritten:
            error = error or self._disk_failure(unwritten) or unwritten
        self.tracker.finish(summary, failed=status in ("failed", "diverged"))
        return error

    def _draw_and_export(self, model: LanguageModel, status: Status, draws: bool) -> None:
        progress = self.data.progress
        if status == "done":
            for line in outcome_warnings(self.files.rows(), progress.eval_first, progress.eval_last):
                self.console.say(f"warning: {line}")
        if progress.iteration > 0 and draws:
            self.curves.write(lambda: self.console.say(f"curves: {draw_run(self.directory)}"))
        if status == "done":
            card = model_card(self._summary(status, None), self.info.config, self.files.rows())
            model.model.float()  # as everything loads it; the checkpoint keeps float64
            export_model(model, self.directory / "export", card)
            self.console.say(
                f"held-out accuracy {_percent(progress.eval_first)} -> {_percent(progress.eval_last)} "
                f"in {progress.seconds:.0f} s; model: {self.directory / 'export'}"
            )

    def _disk_failure(self, error: BaseException) -> DiskFailure | None:
        """The failure of the disk that `error` tells of, with what is kept and what to type."""
        saved = checkpoint_folders(self.directory / "checkpoints")
        kept = f"the state after iteration {iteration_in(saved[-1])} is kept" if saved else "no checkpoint was due yet"
        advice = f"{kept}; make room or have the disk writable again, then type resume={self.directory}"
        return disk_failure(error, self.directory, advice)

    def _summary(self, status: Status, error: BaseException | None) -> Summary:
        info = self.info
        return replace(
            self.data.progress.summary(status, info.algo, info.model, info.dataset, info.seed),
            prompt_hash=info.prompt_hash,
            verifiers=self.verifiers,
            revisions=dict(info.revisions),
            error=None if error is None else f"{type(error).__name__}: {error}",
            resumed_from=self.resumed_from,
            run=self.record.run,
            changes=tuple(self.record.changes),
            alarms=self.bookkeeping.alarms.state.lines,
        )

    def _checked_tracker_id(self, checkpoint: Path | None) -> str | None:
        """The tracker's id in the checkpoint, after a check that the run began with the weights that are loaded now.

        KL and DPO terms are relative to the initial model, which is not in the checkpoint but loaded anew.
        """
        mine = initial_fingerprint(self.language_model)
        self.data.note(initial_weights=mine, prompt_hash=self.info.prompt_hash, verifiers=self.verifiers)
        if checkpoint is None:
            return None
        saved = outline(checkpoint)
        self._refuse_other_parameters(saved["state_dict"])
        state = saved[IterationData.__qualname__]
        if state["initial_weights"] != mine:
            raise ConfigError(
                f"resume={self.directory}: the run began with other weights than model {self.info.model} holds now; "
                "set model.path to the weights it began with, or start a new run"
            )
        return state["tracker_id"]

    def _checkpoint(self) -> Path | None:
        """The newest intact checkpoint of this run; None if the run ended before it wrote any."""
        folder = self.directory / "checkpoints"
        found = newest_valid(folder, self.record.run)
        if found is None and checkpoint_folders(folder):
            raise ConfigError(f"resume={self.directory}: no intact checkpoint; type another run, or start a new one")
        return found

    def _last_checkpoint(self) -> Path | None:
        """The newest intact checkpoint, without reading it; None before the first."""
        folders = checkpoint_folders(self.directory / "checkpoints")
        return next((each for each in reversed(folders) if is_intact(each, self.record.run, hashed=False)), None)

    def _refuse_other_parameters(self, saved: Mapping[str, Tensor]) -> None:
        """Refuse a checkpoint whose parameters are not those trained now; Lightning would refuse it too late."""
        trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        other = [name for name, p in trained.items() if name not in saved or saved[name].shape != p.shape]
        if other:
            raise ConfigError(
                f"resume={self.directory}: its checkpoint does not fit the model and algorithm that are configured now "
                f"({other[0]} is another or absent there); leave out what changes them, or start a new run"
            )

    def _open_tracker(self, kept: str | None) -> None:
        if self.trainer.is_global_zero:
            changes = {"changes": self.record.changes} if self.record.changes else {}
            info = replace(self.info, config={**self.info.config, "run": self.record.run, **changes})
            self.data.note(tracker_id=self.tracker.start(self.directory, info, kept))

    def _trainer(self, hardware: Hardware, settings: TrainerSettings) -> pl.Trainer:
        c = self.intervals
        double = hardware.precision_plugin()
        return pl.Trainer(
            max_epochs=c.iterations,
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy=hardware.lightning_strategy(),
            precision=None if double else hardware.precision,
            callbacks=[
                self.stopping,
                self.module.guard,
                self.guard,
                self.bookkeeping,
                IterationCheckpoint(
                    self.directory / "checkpoints",
                    c.save,
                    c.keep,
                    c.keep_best,
                    self.clock,
                    self.writer,
                    self.record.run,
                ),
                *settings.watched(),
            ],
            plugins=[each for each in (SyncedCheckpointIO(), double, hardware.environment()) if each is not None],
            logger=self.observed or False,
            enable_progress_bar=False,
            enable_model_summary=settings.enable_model_summary,
            profiler=settings.profiler_in(self.directory),
            deterministic=settings.deterministic,
            benchmark=settings.benchmark,
            detect_anomaly=settings.detect_anomaly,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )

    def _collecting(self) -> AbstractContextManager:
        """The precision context of `training_step`, for sampling and scoring outside of it."""
        return self.trainer.precision_plugin.forward_context()


def _need(module: IterationModule, language_model: LanguageModel, intervals: Intervals) -> Need:
    """The room that a run takes: a checkpoint holds some copies of the trained weights, an export all weights."""
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    every = -(-intervals.iterations // intervals.save)
    kept = every if intervals.keep is None else min(intervals.keep + intervals.keep_best, every)
    return Need(module.copies * trained, kept, sum(4 * p.numel() for p in language_model.model.parameters()))


def _status_of(stop: Stopped) -> Status:
    return "preempted" if stop.code == PREEMPTED else "interrupted"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
