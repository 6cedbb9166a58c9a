"""Lightning callback around an iteration: evaluation, metrics and counters."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytorch_lightning as pl
import torch

from winnow import distributed, signals
from winnow.errors import Diverged, Stopped
from winnow.evaluation.sets import HeldOutEvaluator, HeldOutResult
from winnow.experience.loader import Outcome
from winnow.experience.metrics import Clock
from winnow.guards.alarms import Alarms, AlarmState
from winnow.models.language_model import fingerprint
from winnow.run_logs.background_writer import BackgroundWriter
from winnow.run_logs.console import RunConsole
from winnow.run_logs.disk import Spared
from winnow.run_logs.run_files import RunFiles
from winnow.run_logs.tracker import Tracker
from winnow.training.modules import IterationModule
from winnow.training.observers import ObservedMetrics
from winnow.training.patience import Patience
from winnow.training.progress import IterationData, RunBudget, RunProgress

MetricRow = dict[str, float]


@dataclass(eq=False)
class IterationBookkeeping(pl.Callback):
    """Callback that evaluates every `every` iterations, and records metrics, samples and progress after each iteration.

    It runs before the checkpoint callback, so that its counters are in the checkpoint. Files and the tracker are
    written by `writer` while the next iteration already runs; code that reads them has to wait for it first.
    `collecting` is the context in which the model samples and scores outside of a training step (autocast).
    `samples` are given up on a full disk. `spent` is true once the budget has ended the run. `stop` is the iteration
    after which it pauses, if any. What callbacks have logged to `observed` goes to the tracker with the row. Once its
    `patience` is exhausted, a run ends as one whose budget is spent, or, if its task is out of reach, in `Diverged`.
    """

    evaluator: HeldOutEvaluator
    every: int
    budget: RunBudget
    files: RunFiles
    tracker: Tracker
    console: RunConsole
    clock: Clock
    writer: BackgroundWriter
    collecting: Callable[[], AbstractContextManager]
    alarms: Alarms
    samples: Spared
    stop: int | None = None
    observed: ObservedMetrics | None = None
    patience: int | None = None
    spent: bool = field(default=False, init=False)
    _began: float = field(default=0.0, init=False)
    _said: set[str] = field(default_factory=set, init=False)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the model before training and record it as iteration 0; a resumed run has that already."""
        self._began = time.perf_counter()
        data = _data(trainer)
        if trainer.is_global_zero:
            self.files.truncate_after(data.progress.iteration if data.progress.iteration > 0 else -1)
        if data.progress.iteration > 0:
            self._end_if_spent(trainer, data.progress)
            self._evaluate_after_resume(trainer, data)
            return
        found = self._evaluate(trainer, 0)
        data.note_accuracy(0, found.figures[self.evaluator.accuracy_key()])
        total = {
            "time/total": time.perf_counter() - self._began,
            "train/sampled_tokens_total": 0,
            "train/tokens_trained_total": 0,
        }
        self._publish(trainer, {"iteration": 0, **found.figures, **self.clock.take(), **total}, found)

    def _evaluate_after_resume(self, trainer: pl.Trainer, data: IterationData) -> None:
        """Make the evaluation that is due after the last iteration, if a signal has prevented it."""
        iteration = data.progress.iteration
        evaluated = data.progress.evaluated == iteration
        if evaluated or not self._due(iteration, trainer) or self.stop is not None:
            return
        found = self._evaluate(trainer, iteration)
        data.note_accuracy(iteration, found.figures[self.evaluator.accuracy_key()])
        if trainer.is_global_zero:
            self._say_lost(found)
            self.files.amend_last(found.figures, found.counts)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, data = _module(pl_module), _data(trainer)
        assert trainer.max_epochs is not None
        module.set_optimiser(trainer.optimizers[0], module.optim.factor(data.loader.iteration, trainer.max_epochs))
        self.console.phase("sampling")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.console.phase("updating")
            self.clock.start("update")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock.stop("update")
        module, data = _module(pl_module), _data(trainer)
        outcome = data.loader.outcome
        assert outcome is not None
        iteration = data.loader.iteration + 1
        self._count(data, outcome, iteration)
        module.end_iteration(iteration)
        row: MetricRow = {"iteration": iteration, **outcome.experience.metrics, **module.take_metrics()}
        row |= _counters(data, outcome) | {"train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        before = data.progress.seconds
        # Before the evaluation, because the last iteration of a run is always evaluated.
        self._end_if_spent(trainer, replace(data.progress, seconds=before + time.perf_counter() - self._began))
        ending = Patience(self.patience).ending(data.progress, outcome.experience.metrics)
        due = self._due(iteration, trainer) and (ending is None or ending.solved)
        found = self._evaluated_unless_stopped(trainer, iteration) if due else None
        if found is not None:
            row |= found.figures
            data.note_accuracy(iteration, row[self.evaluator.accuracy_key()])
        now = time.perf_counter()
        data.note(seconds=before + now - self._began)
        if found is not None:  # the evaluation may have used up the budget's seconds
            self._end_if_spent(trainer, data.progress)
        # With demonstrations nothing is sampled, and the tokens per second are those of training.
        tokens = row.pop("sampled_tokens", float(outcome.tokens_trained))
        seconds = now - self._began
        row |= {"perf/iteration_s": seconds, "perf/tokens_per_s": tokens / seconds}
        row |= self.clock.take() | {"time/total": data.progress.seconds}
        self._began = now
        if trainer.is_global_zero:
            records = outcome.experience.records
            self.writer.do(self.samples.write, lambda: self.files.write_samples(iteration, records))
            self.writer.do(self.samples.write, lambda: self.tracker.samples(iteration, records))
        self._publish(trainer, row, found, fingerprint(module.policy.model))
        trainer.should_stop = trainer.should_stop or iteration == self.stop
        if ending is not None and not ending.solved:
            raise Diverged(ending.words)
        if ending is not None and trainer.is_global_zero:
            self.console.say(ending.words)

    def _end_if_spent(self, trainer: pl.Trainer, progress: RunProgress) -> None:
        """End the run after this iteration if budget or patience is used up; the first rank decides for all."""
        self.spent = trainer.strategy.broadcast(self.budget.reached(progress)) or Patience(self.patience).exhausted(
            progress
        )
        trainer.should_stop = trainer.should_stop or self.spent

    def _count(self, data: IterationData, outcome: Outcome, iteration: int) -> None:
        before, metrics = data.progress, outcome.experience.metrics
        data.advance(
            replace(
                before,
                iteration=iteration,
                prompts=before.prompts + len({r.prompt_key for r in outcome.experience.records}),
                sampled_tokens=before.sampled_tokens + int(metrics.get("sampled_tokens", 0)),
                trained_tokens=before.trained_tokens + outcome.tokens_trained,
                barren=Patience(self.patience).counted(before.barren, metrics),
            )
        )

    def _due(self, iteration: int, trainer: pl.Trainer) -> bool:
        """Whether to evaluate after `iteration`."""
        return self._is_last(iteration, trainer) or (self.every > 0 and iteration % self.every == 0)

    def _is_last(self, iteration: int, trainer: pl.Trainer) -> bool:
        return self.spent or iteration == trainer.max_epochs

    def _evaluated_unless_stopped(self, trainer: pl.Trainer, iteration: int) -> HeldOutResult | None:
        """The evaluation, None if a signal ends the run, whose sender may not wait for it: a resume then makes it."""
        try:
            return self._evaluate(trainer, iteration)
        except Stopped:
            trainer.should_stop = True
            return None

    def _evaluate(self, trainer: pl.Trainer, iteration: int) -> HeldOutResult:
        self.console.phase("evaluating")
        with self.clock.of("eval"), self.collecting(), torch.no_grad():
            return distributed.leave_together(lambda: self._evaluated(_data(trainer), iteration))

    def _evaluated(self, data: IterationData, iteration: int) -> HeldOutResult:
        signals.check()
        if data.ahead is not None:  # the engine has to draw with one policy at a time
            data.ahead.wait()
        return self.evaluator.evaluate(iteration)

    def _publish(
        self, trainer: pl.Trainer, row: MetricRow, found: HeldOutResult | None, weights: str | None = None
    ) -> None:
        raised = self.alarms.observe(row)
        row["alarms/active"] = float(len(self.alarms.state.active))
        if trainer.is_global_zero:
            if found is not None:
                self._say_lost(found)
                self.writer.do(self.files.append_evaluations, found.counts)
            self.writer.do(self.files.append, row, weights)
            self.writer.do(self.tracker.log, row | (self.observed.take() if self.observed else {}))
            self.console.iteration(row)
            for line in raised:
                self.console.say(f"warning: {line}")

    def _say_lost(self, found: HeldOutResult) -> None:
        """Name the reward function whose failure counts as wrong answers, once for each kind of its errors."""
        for kind, line in found.lost.items():
            if kind not in self._said:
                self._said.add(kind)
                self.console.say(f"warning: {line}")

    def state_dict(self) -> dict[str, Any]:
        return {"alarms": asdict(self.alarms.state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alarms.state = AlarmState(**state_dict["alarms"])


def _counters(data: IterationData, outcome: Outcome) -> MetricRow:
    sampled = outcome.experience.metrics.get("sampled_tokens")
    share = (
        {"train/gradient_mass/sampled_per_trained": sampled / outcome.tokens_trained}
        if sampled and outcome.tokens_trained
        else {}
    )
    return share | {
        "train/updates": float(len(outcome.dealt)),
        "train/updates_skipped_empty": float(outcome.skipped),
        "train/samples/tokens_trained": float(outcome.tokens_trained),
        "train/sampled_tokens_total": float(data.progress.sampled_tokens),
        "train/tokens_trained_total": float(data.progress.trained_tokens),
        "train/prompts_total": float(data.progress.prompts),
    }


def _module(pl_module: pl.LightningModule) -> IterationModule:
    assert isinstance(pl_module, IterationModule)
    return pl_module


def _data(trainer: pl.Trainer) -> IterationData:
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, IterationData)
    return data
