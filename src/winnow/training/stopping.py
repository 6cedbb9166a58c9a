"""The end of a training run on a signal.

Sampling, verifying, scoring and evaluation are abandoned, and the state of the last iteration boundary is saved, which
is what the memory holds until the next update. Updates under way are finished first.
"""

import time

import pytorch_lightning as pl

from winnow import distributed, signals
from winnow.run_logs.console import RunConsole
from winnow.training.peers import Peers
from winnow.training.progress import IterationData

ABANDONED = "what is under way is abandoned, and the state after iteration {} will be saved"
NOTHING_YET = "what is under way is abandoned; there is no iteration to save yet"
UPDATING = "finishing the updates of iteration {} first, then saving; the last iteration's took {:.1f} s"


class StopOnSignal(pl.Callback):
    """Callback that ends the run on all ranks if a signal has come to one of them.

    `answer` is what to say to a signal now. It has to come before the callbacks that evaluate and save.
    """

    def __init__(self, console: RunConsole, data: IterationData, peers: Peers) -> None:
        self.console, self.data, self.peers = console, data, peers
        self._began: float | None = None  # the time at which updates began, while they are under way
        self._seconds = 0.0  # that the last iteration's updates took

    def answer(self) -> str:
        """A line for the signal that has just come, and what to expect from a second one."""
        done = self.data.progress.iteration
        state = ABANDONED.format(done) if done else NOTHING_YET
        words = state if self._began is None else UPDATING.format(done + 1, self._seconds)
        return f"{words}; a second signal ends it at once"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Lightning's handler of SIGTERM ends the run after the next micro-batch, without a checkpoint, and broadcasts
        # from inside the handler, which only the first rank's may. `signals` handles it, whatever the rank.
        trainer._signal_connector.register_signal_handlers = lambda: None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.peers.watch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop all ranks after the same iteration, whichever of them got the signal."""
        if self._began is not None:
            self._seconds, self._began = time.perf_counter() - self._began, None
        stop_together()
        if signals.received() is not None:
            trainer.should_stop = True
            if trainer.is_global_zero:
                self.console.say(f"the updates took {self._seconds:.1f} s in all; saving")


def stop_together() -> None:
    """Have every rank know of a signal that has come to one of them."""
    for number in distributed.all_gather(signals.received()):
        if number is not None:
            signals.note(number)
