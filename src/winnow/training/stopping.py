"""The end of a training run on a signal.

Sampling, verifying, scoring and evaluation are abandoned, and the state of the last iteration boundary is saved, which
is what the memory holds until the next update. Updates under way are finished first.
"""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from signal import Signals

import pytorch_lightning as pl
from torch.distributed import distributed_c10d

from winnow import distributed, signals
from winnow.run_logs.console import RunConsole
from winnow.training.progress import IterationData

ABANDONED = "what is under way is abandoned, and the state after iteration {} will be saved"
NOTHING_YET = "what is under way is abandoned; there is no iteration to save yet"
UPDATING = "finishing the updates of iteration {} first, then saving; the last iteration's took {:.1f} s"


class StopOnSignal(pl.Callback):
    """Callback that ends the run on all ranks if a signal has come to one of them.

    `answer` is what to say to a signal now. It has to come before the callbacks that evaluate and save.
    """

    def __init__(self, console: RunConsole, data: IterationData) -> None:
        self.console, self.data = console, data
        self._peers = Peers()
        self.first_rank = FirstRank()
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
        self._peers.watch()
        self.first_rank.find()

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

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._peers.close()


def stop_together() -> None:
    """Have every rank know of a signal that has come to one of them."""
    for number in distributed.all_gather(signals.received()):
        if number is not None:
            signals.note(number)


class FirstRank:
    """The end of a run on its first rank, which writes all files: the other ranks wait for it.

    A launcher (torchrun, SLURM) ends all processes of a job once one of them has failed, the first one in the midst of
    its last files too.
    """

    KEY = "winnow/closed"

    def __init__(self) -> None:
        self._store: distributed_c10d.Store | None = None

    def find(self) -> None:
        """Connect with the store through which the ranks have found each other; nothing if there are none."""
        if distributed.world_size() > 1:
            self._store = distributed_c10d._get_default_store()

    def closed(self) -> None:
        """Let the other ranks go."""
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.set(self.KEY, "")

    def wait(self, seconds: float) -> None:
        """Wait until the first rank is done, or no longer there, for `seconds` at most."""
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.wait([self.KEY], timedelta(seconds=seconds))


class Peers:
    """The other ranks of the run, which are told of a signal while each samples for itself.

    A thread looks for it in the store through which the ranks have found each other.
    """

    KEY, SECONDS = "winnow/signal", 0.25

    def __init__(self) -> None:
        self._closed = threading.Event()

    def watch(self) -> None:
        """Begin to tell the other ranks, and to be told; nothing if there are none."""
        if distributed.world_size() > 1:
            store = distributed_c10d._get_default_store()
            threading.Thread(target=self._watch, args=(store,), daemon=True, name="signals of ranks").start()

    def close(self) -> None:
        self._closed.set()

    def _watch(self, store: distributed_c10d.Store) -> None:
        while not self._closed.wait(self.SECONDS):
            try:
                if (number := signals.received()) is not None:
                    store.set(self.KEY, str(int(number)))
                    return
                if store.check([self.KEY]):
                    signals.note(Signals(int(store.get(self.KEY))))
            except (RuntimeError, ValueError):  # the first rank, whose store it is, has ended
                return
