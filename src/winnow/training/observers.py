"""Callbacks that observe a run (`callbacks=`), what they log, and the watch that they change nothing."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger

from winnow.errors import ConfigError

PREFIX = "callbacks/"
"""Prefix of the metrics that callbacks log; they go to the loggers, and not to `metrics.jsonl`."""


class ObservedMetrics(Logger):
    """Lightning logger to which callbacks log. The last value of a metric in an iteration goes to the trackers."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    @property
    def name(self) -> str:
        return "winnow"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: object, **kwargs: object) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._last |= {f"{PREFIX}{key}": float(value) for key, value in metrics.items()}

    def take(self) -> dict[str, float]:
        """The metrics since the last call."""
        taken, self._last = self._last, {}
        return taken


class StepTimer(pl.Callback):
    """Callback that logs the seconds of an iteration's optimiser steps with their micro-batches: mean, longest."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._steps, self._began = 0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds, self._steps = [], trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # sampling ends where the first micro-batch begins
            self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step > self._steps:
            now = time.perf_counter()
            self._seconds.append(now - self._began)
            self._steps, self._began = trainer.global_step, now

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._seconds:
            mean, longest = sum(self._seconds) / len(self._seconds), max(self._seconds)
            for logger in trainer.loggers:
                logger.log_metrics({"timer/step_s": mean, "timer/longest_step_s": longest}, trainer.global_step)


class WatchedCallback(pl.Callback):
    """A callback whose every hook is followed by a look at all that an update depends on.

    These are the weights, their gradients, the tensors that the hook was given (a batch, a loss), and the settings of
    optimiser and trainer. A change of them ends the run. Tensors count their changes; one made through `Tensor.data` is
    not counted, but `winnow audit`, which computes iterations again without callbacks, finds its effect.

    Raises:
        ConfigError: a hook has changed one of these.
    """

    def __init__(self, name: str, callback: pl.Callback) -> None:
        self.name, self.callback = name, callback

    @property
    def state_key(self) -> str:
        return self.callback.state_key

    def state_dict(self) -> dict[str, Any]:
        return self.callback.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.callback.load_state_dict(state_dict)


def _watched(hook: str) -> Callable[..., object]:
    def call(self: WatchedCallback, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **named: Any):
        before = dict(_state(trainer, pl_module, args, named))
        result = getattr(self.callback, hook)(trainer, pl_module, *args, **named)
        after = dict(_state(trainer, pl_module, args, named))
        changed = sorted({what for what in {**before, **after} if before.get(what) != after.get(what)})
        if changed:
            raise ConfigError(
                f"callbacks.{self.name}: {hook} of {type(self.callback).__name__} has changed {', '.join(changed)}; a "
                "callback observes: leave it out, or write the change as a rule of an algorithm (docs/extending.md)"
            )
        return result

    call.__name__ = hook
    return call


HOOKS = [name for name in vars(pl.Callback) if name.startswith("on_") or name in ("setup", "teardown")]
for _hook in HOOKS:
    setattr(WatchedCallback, _hook, _watched(_hook))


def _state(
    trainer: pl.Trainer, module: pl.LightningModule, args: tuple[object, ...], named: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    parameters = list(module.parameters())
    yield "weights", [(p.data_ptr(), p._version, p.requires_grad) for p in parameters]
    yield "gradients", [(id(p.grad), p.grad._version) for p in parameters if p.grad is not None]
    yield (
        "what the hook was given",
        [(tensor.data_ptr(), tensor._version) for tensor in _tensors([*args, *named.values()])],
    )
    groups = [group for optimiser in trainer.optimizers for group in optimiser.param_groups]
    yield "the optimiser's settings", [{k: v for k, v in group.items() if k != "params"} for group in groups]
    yield "accumulate_grad_batches", trainer.accumulate_grad_batches
    yield "gradient_clip_val", trainer.gradient_clip_val
    yield "the number of iterations", trainer.max_epochs


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """The tensors in a value: itself, or those of a dataclass, mapping, list or tuple."""
    if isinstance(value, torch.Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from _tensors(getattr(value, part.name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
