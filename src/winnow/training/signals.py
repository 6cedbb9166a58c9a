"""Asked to stop: finish the iteration, save, and leave with the code that says so. Asked twice: leave."""

import os
import signal
from types import FrameType

import pytorch_lightning as pl

from winnow.errors import INTERRUPTED, PREEMPTED

CODES = {signal.SIGTERM: PREEMPTED, signal.SIGUSR1: PREEMPTED, signal.SIGINT: INTERRUPTED}


class StopOnSignal(pl.Callback):
    """`code` is None until a signal came."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._before: dict[signal.Signals, signal.Handlers | None] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number in CODES:
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
        for number in CODES:
            signal.signal(number, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.code is not None:
            os._exit(128 + number)
        self.code = CODES[signal.Signals(number)]
        print(
            f"{signal.Signals(number).name}: finishing this iteration, then saving; again to stop at once", flush=True
        )
