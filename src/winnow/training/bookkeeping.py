"""What surrounds an iteration: evaluation, figures, samples, counters."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytorch_lightning as pl
import torch

from winnow.experience.clock import Clock
from winnow.experience.loader import Outcome
from winnow.report.console import Console
from winnow.report.later import Later
from winnow.report.run_files import RunFiles
from winnow.report.tracker import Tracker
from winnow.training.base import IterationModule
from winnow.training.datamodule import IterationData
from winnow.training.evaluate import Evaluator

Row = dict[str, float]


class Bookkeeping(pl.Callback):
    """Runs before the checkpoint callback, so that what it counts is in the checkpoint.

    Files and the tracker are written `later`, beside the next iteration; whoever reads them waits for that first.
    `collecting` is the context under which the model samples and scores outside of a training step (autocast).
    """

    def __init__(
        self,
        evaluator: Evaluator,
        every: int,
        files: RunFiles,
        tracker: Tracker,
        console: Console,
        clock: Clock,
        later: Later,
        collecting: Callable[[], AbstractContextManager],
    ) -> None:
        self.evaluator, self.every, self.later, self.collecting = evaluator, every, later, collecting
        self.files, self.tracker, self.console, self.clock = files, tracker, console, clock
        self._began = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The accuracy before training; a resumed run has it already."""
        self._began = time.perf_counter()
        data = _data(trainer)
        if trainer.is_global_zero:
            self.files.truncate_after(data.progress.iteration if data.progress.iteration > 0 else -1)
        if data.progress.iteration > 0:
            self._make_up(trainer, data)
            return
        row = self._evaluate(trainer, 0)
        accuracy = row[self.evaluator.accuracy_key()]
        data.note(eval_first=accuracy, eval_last=accuracy)
        self._publish(trainer, {"iteration": 0, **row, **self.clock.take()})

    def _make_up(self, trainer: pl.Trainer, data: IterationData) -> None:
        """The last evaluation, where a signal kept it from being made and no iteration is left to make it."""
        iteration = data.progress.iteration
        if iteration != trainer.max_epochs or data.progress.evaluated == iteration:
            return
        row = self._evaluate(trainer, iteration)
        data.note(eval_last=row[self.evaluator.accuracy_key()], evaluated=iteration)
        if trainer.is_global_zero:
            self.files.amend_last(row)

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
        row: Row = {"iteration": iteration, **outcome.experience.metrics, **module.take_metrics()}
        row |= _counters(data, outcome) | {"train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        if self._due(iteration, trainer):
            row |= self._evaluate(trainer, iteration)
            data.note(eval_last=row[self.evaluator.accuracy_key()], evaluated=iteration)
        now = time.perf_counter()
        data.note(seconds=data.progress.seconds + now - self._began)
        # Demonstrations are not sampled; their speed is that of learning from them.
        tokens = row.pop("sampled_tokens", float(outcome.tokens_trained))
        row |= _speed(tokens, now - self._began) | self.clock.take()
        self._began = now
        if trainer.is_global_zero:
            self.later.do(self.files.write_samples, iteration, outcome.experience.records)
            self.later.do(self.tracker.samples, iteration, outcome.experience.records)
        self._publish(trainer, row)

    def _count(self, data: IterationData, outcome: Outcome, iteration: int) -> None:
        before, metrics = data.progress, outcome.experience.metrics
        data.advance(
            replace(
                before,
                iteration=iteration,
                prompts=before.prompts + len({r.prompt_key for r in outcome.experience.records}),
                sampled_tokens=before.sampled_tokens + int(metrics.get("sampled_tokens", 0)),
                trained_tokens=before.trained_tokens + outcome.tokens_trained,
            )
        )

    def _due(self, iteration: int, trainer: pl.Trainer) -> bool:
        """Not when a signal ends the run: whoever sent it may not wait for an evaluation."""
        return iteration == trainer.max_epochs or (self.every > 0 and iteration % self.every == 0)

    def _evaluate(self, trainer: pl.Trainer, version: int) -> Row:
        self.console.phase("evaluating")
        with self.clock.of("eval"), self.collecting(), torch.no_grad():
            return self.evaluator.evaluate(version)

    def _publish(self, trainer: pl.Trainer, row: Row) -> None:
        if trainer.is_global_zero:
            self.later.do(self.files.append, row)
            self.later.do(self.tracker.log, row)
            self.console.iteration(row)


def _counters(data: IterationData, outcome: Outcome) -> Row:
    return {
        "train/updates": float(len(outcome.dealt)),
        "train/updates_skipped_empty": float(outcome.skipped),
        "train/samples/tokens_trained": float(outcome.tokens_trained),
        "train/tokens_total": float(data.progress.sampled_tokens),
        "train/tokens_trained_total": float(data.progress.trained_tokens),
        "train/prompts_total": float(data.progress.prompts),
    }


def _speed(tokens: float, seconds: float) -> Row:
    return {"perf/iteration_s": seconds, "perf/tokens_per_s": tokens / seconds}


def _module(pl_module: pl.LightningModule) -> IterationModule:
    assert isinstance(pl_module, IterationModule)
    return pl_module


def _data(trainer: pl.Trainer) -> IterationData:
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, IterationData)
    return data
