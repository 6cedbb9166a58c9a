"""Iterations of a real run, timed one by one: the only file of the benchmarks that looks inside a run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from benchmarks.cpu import cpu_seconds
from winnow.assemble import common
from winnow.assemble.training import build_run
from winnow.config import checks
from winnow.config.compose import composed
from winnow.models.language_model import LanguageModel
from winnow.run_logs.run_files import SampleRecord
from winnow.training.run import Run


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, of all processors together and of the clock on the wall."""

    cpu: float
    wall: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.cpu - other.cpu, self.wall - other.wall)


_NONE = Cost(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sampled response: how long, after which prompt, and whether the update has seen it."""

    prompt: str
    prompt_tokens: int
    tokens: int
    trained: bool


@dataclass(frozen=True, slots=True)
class Iteration:
    """`step` is the whole of it, from the end of the one before: bookkeeping and files too. `rollout` ends where the first
    micro-batch is handed out, `update` begins there; where nothing is trained on there is no update."""

    step: Cost
    rollout: Cost
    update: Cost
    rows: list[Drawn]

    @property
    def completion_tokens(self) -> int:
        return sum(row.tokens for row in self.rows)

    @property
    def trained(self) -> list[Drawn]:
        return [row for row in self.rows if row.trained]


After = Callable[[nn.Module, Iteration], None]
"""Called with the model after each iteration; its time counts nowhere."""
Before = Callable[[], None]
"""Called before each update; its time counts nowhere."""


def measure(
    words: Sequence[str], directory: Path, warm_up: int, after: After | None = None, before_update: Before | None = None
) -> list[Iteration]:
    """What `python train.py WORDS` does, in `directory`; its iterations but the first `warm_up`, which are 1 or more: Lightning
    samples for the first before it says that it has begun."""
    assert warm_up >= 1
    directory.mkdir(parents=True, exist_ok=True)
    cfg = composed("train", words)
    checks.check_config(cfg)
    common.quiet_libraries()
    common.set_threads(cfg)
    with common.verifiers(cfg) as (pool, benchmarks):
        run = build_run(cfg, directory, pool, benchmarks)
        marks = _Marks(run, after, before_update)
        run.trainer.callbacks.insert(0, marks)  # pyright: ignore[reportAttributeAccessIssue]
        run.fit(resume=False)
    return marks.iterations[warm_up:]


class _Marks(pl.Callback):
    """First of the callbacks, so that an update ends before its bookkeeping begins."""

    def __init__(self, run: Run, after: After | None, before_update: Before | None) -> None:
        self.run, self.after, self.before_update = run, after, before_update
        self.iterations: list[Iteration] = []
        self._ended = self._began = _now()
        self._rollout, self._aside = _NONE, _NONE
        self._updating: Cost | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began, self._updating, self._aside = _now(), None, _NONE

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx > 0:
            return
        now = _now()
        self._rollout = now - self._began
        if self.before_update is not None:
            self.before_update()
        self._updating = _now()
        self._aside = self._updating - now

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = _now()
        if self._updating is None:  # nothing was kept
            rollout, update = now - self._began, _NONE
        else:
            rollout, update = self._rollout, now - self._updating
        step = now - self._ended - self._aside
        outcome = self.run.data.loader.outcome
        assert outcome is not None
        rows = _drawn(outcome.experience.records, self.run.language_model)
        self.iterations.append(Iteration(step, rollout, update, rows))
        if self.after is not None:
            self.after(self.run.language_model.model, self.iterations[-1])
        self._ended = _now()


def _drawn(records: Sequence[SampleRecord], language_model: LanguageModel) -> list[Drawn]:
    lengths = {record.prompt: len(language_model.encode(record.prompt)) for record in records}
    return [
        Drawn(record.prompt_key, lengths[record.prompt], record.length, record.kept and record.advantage != 0)
        for record in records
    ]


def _now() -> Cost:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # what was only asked for has not been done
    return Cost(cpu_seconds(), time.perf_counter())
