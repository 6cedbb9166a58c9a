"""What surrounds an iteration: evaluation, figures, samples, counters."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import FrameType

import pytorch_lightning as pl
import torch

from winnow.errors import EXIT_CODE_OF_SIGNAL, PREEMPTED
from winnow.evaluation.sets import HeldOutEvaluator, HeldOutResult
from winnow.experience.loader import Outcome
from winnow.experience.metrics import Clock
from winnow.run_logs.console import RunConsole
from winnow.run_logs.run_files import BackgroundWriter, RunFiles
from winnow.run_logs.tracker import Tracker
from winnow.training.modules import IterationModule
from winnow.training.progress import IterationData, RunBudget, RunProgress

MetricRow = dict[str, float]


class IterationBookkeeping(pl.Callback):
    """Runs before the checkpoint callback, so that what it counts is in the checkpoint.

    Files and the tracker are written `later`, beside the next iteration; whoever reads them waits for that first.
    `collecting` is the context under which the model samples and scores outside of a training step (autocast).
    `spent` says that the budget has ended the run.
    """

    def __init__(
        self,
        evaluator: HeldOutEvaluator,
        every: int,
        budget: RunBudget,
        files: RunFiles,
        tracker: Tracker,
        console: RunConsole,
        clock: Clock,
        later: BackgroundWriter,
        collecting: Callable[[], AbstractContextManager],
    ) -> None:
        self.evaluator, self.every, self.later, self.collecting = evaluator, every, later, collecting
        self.files, self.tracker, self.console, self.clock = files, tracker, console, clock
        self.budget, self.spent = budget, False
        self._began = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The accuracy before training; a resumed run has it already."""
        self._began = time.perf_counter()
        data = _data(trainer)
        if trainer.is_global_zero:
            self.files.truncate_after(data.progress.iteration if data.progress.iteration > 0 else -1)
        if data.progress.iteration > 0:
            self._end_if_spent(trainer, data.progress)
            self._make_up(trainer, data)
            return
        found = self._evaluate(trainer, 0)
        accuracy = found.figures[self.evaluator.accuracy_key()]
        data.note(eval_first=accuracy, eval_last=accuracy)
        total = {
            "time/total": time.perf_counter() - self._began,
            "train/sampled_tokens_total": 0,
            "train/tokens_trained_total": 0,
        }
        self._publish(trainer, {"iteration": 0, **found.figures, **self.clock.take(), **total}, found)

    def _make_up(self, trainer: pl.Trainer, data: IterationData) -> None:
        """The last evaluation, where a signal kept it from being made and no iteration is left to make it."""
        iteration = data.progress.iteration
        if not self._is_last(iteration, trainer) or data.progress.evaluated == iteration:
            return
        found = self._evaluate(trainer, iteration)
        data.note(eval_last=found.figures[self.evaluator.accuracy_key()], evaluated=iteration)
        if trainer.is_global_zero:
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
        row: MetricRow = {"iteration": iteration, **outcome.experience.metrics, **module.take_metrics()}
        row |= _counters(data, outcome) | {"train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        before = data.progress.seconds
        self._end_if_spent(trainer, replace(data.progress, seconds=before + time.perf_counter() - self._began))
        found = None
        if self._due(iteration, trainer):
            found = self._evaluate(trainer, iteration)
            row |= found.figures
            data.note(eval_last=row[self.evaluator.accuracy_key()], evaluated=iteration)
        now = time.perf_counter()
        data.note(seconds=before + now - self._began)
        if found is not None:  # it took time too
            self._end_if_spent(trainer, data.progress)
        # Demonstrations are not sampled; their speed is that of learning from them.
        tokens = row.pop("sampled_tokens", float(outcome.tokens_trained))
        row |= _speed(tokens, now - self._began) | self.clock.take() | {"time/total": data.progress.seconds}
        self._began = now
        if trainer.is_global_zero:
            self.later.do(self.files.write_samples, iteration, outcome.experience.records)
            self.later.do(self.tracker.samples, iteration, outcome.experience.records)
        self._publish(trainer, row, found)

    def _end_if_spent(self, trainer: pl.Trainer, progress: RunProgress) -> None:
        """By the first rank's clock: ranks end together."""
        self.spent = trainer.strategy.broadcast(self.budget.reached(progress))
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
            )
        )

    def _due(self, iteration: int, trainer: pl.Trainer) -> bool:
        """Not when a signal ends the run: whoever sent it may not wait for an evaluation."""
        return self._is_last(iteration, trainer) or (self.every > 0 and iteration % self.every == 0)

    def _is_last(self, iteration: int, trainer: pl.Trainer) -> bool:
        return self.spent or iteration == trainer.max_epochs

    def _evaluate(self, trainer: pl.Trainer, iteration: int) -> HeldOutResult:
        self.console.phase("evaluating")
        with self.clock.of("eval"), self.collecting(), torch.no_grad():
            return self.evaluator.evaluate(iteration)

    def _publish(self, trainer: pl.Trainer, row: MetricRow, found: HeldOutResult | None) -> None:
        if trainer.is_global_zero:
            if found is not None:
                self.later.do(self.files.append_evaluations, found.counts)
            self.later.do(self.files.append, row)
            self.later.do(self.tracker.log, row)
            self.console.iteration(row)


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


def _speed(tokens: float, seconds: float) -> MetricRow:
    return {"perf/iteration_s": seconds, "perf/tokens_per_s": tokens / seconds}


def _module(pl_module: pl.LightningModule) -> IterationModule:
    assert isinstance(pl_module, IterationModule)
    return pl_module


def _data(trainer: pl.Trainer) -> IterationData:
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, IterationData)
    return data


class StopOnSignal(pl.Callback):
    """`code` is None until a signal came."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._before: dict[signal.Signals, signal.Handlers | None] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in EXIT_CODE_OF_SIGNAL:
            self._before[number] = signal.getsignal(number)  # pyright: ignore[reportArgumentType]
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Between the two hooks Lightning puts its own handler in front, which would end the run after the next
        # micro-batch, without a checkpoint. What it heard meanwhile, we heard too.
        self._listen()
        trainer._signal_connector.received_sigterm = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ranks stop together, whichever of them heard the signal."""
        if trainer.strategy.reduce_boolean_decision(self.code is not None, all=False):
            self.code = self.code or PREEMPTED
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _listen(self) -> None:
        for number in EXIT_CODE_OF_SIGNAL:
            signal.signal(number, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.code is not None:
            os._exit(128 + number)
        self.code = EXIT_CODE_OF_SIGNAL[signal.Signals(number)]
        print(
            f"{signal.Signals(number).name}: finishing this iteration, then saving; again to stop at once", flush=True
        )
