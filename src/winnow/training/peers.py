"""The ranks of a run as each other's guards: all learn of a signal to one, and one that is gone or hangs ends the run.

Each rank has a thread that talks to the store through which the ranks have found each other, whatever the rank itself
does. There every rank says what it is doing, so that those that wait know for whom, and where that one is.
"""

import faulthandler
import itertools
import json
import os
import re
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from signal import Signals

import torch.distributed as dist
from torch.distributed import distributed_c10d

from winnow import distributed, signals
from winnow.errors import BUG, LostRank
from winnow.experience.metrics import Clock

BEAT_SECONDS = 0.25
"""Time between two looks into the store."""
GONE_SECONDS = 4.0
"""Time without a word after which a rank counts as gone, where another has already failed."""
GRACE_SECONDS = 10.0
"""Time that a rank has to leave its work once another has failed; its stacks are printed then, and it ends."""
MARGIN_SECONDS = 2.0
"""Time beyond the timeout after which a rank ends whose thread cannot even run, because Python's lock is held."""
SIGNAL, FAILED, HUNG, PRINTED, CLOSED = "signal", "failed", "hung", "printed", "closed"
OF_COLLECTIVES = re.compile(r"gloo|NCCL|ProcessGroup|process group", re.IGNORECASE)
_runs = itertools.count()


class Peers:
    """The other ranks of a run, from `watch` to `close`; alone, there is nobody to watch.

    Ranks wait for each other in collectives for `timeout` at most. The first rank writes all files at the end, and the
    others wait for it: a launcher (torchrun, SLURM) ends all processes of a job once one of them has failed.
    """

    def __init__(self, clock: Clock, timeout: timedelta, directory: Path) -> None:
        self._clock, self._timeout, self._directory = clock, timeout, directory
        self._store: distributed_c10d.Store | None = None
        self._over = threading.Event()
        self._leaving = False

    def watch(self) -> None:
        """Begin to tell the other ranks, and to be told; nothing if there are none."""
        distributed.lose(None)
        if distributed.world_size() == 1:
            return
        distributed.wait_at_most(self._timeout)
        self._store = distributed_c10d.PrefixStore(f"winnow/{next(_runs)}", distributed_c10d._get_default_store())
        threading.Thread(target=self._watch, args=(self._store,), daemon=True, name="other ranks").start()

    def close(self) -> None:
        """End the watch."""
        self._over.set()
        if self._store is not None:
            faulthandler.cancel_dump_traceback_later()

    def closed(self) -> None:
        """Let the other ranks go, on the first one."""
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.set(CLOSED, "")

    def wait_for_first(self, seconds: float) -> None:
        """Wait until the first rank is done, or no longer there, for `seconds` at most."""
        end, heard, word, self._leaving = time.monotonic() + seconds, time.monotonic(), "", True
        with suppress(RuntimeError):
            while self._store is not None and time.monotonic() < min(end, heard + GONE_SECONDS):
                # A blocking wait would keep the thread of this rank from the store.
                if self._store.check([CLOSED]) or self._store.check([FAILED]):
                    return
                if (now := self._word_of(self._store, 0)) != word:
                    heard, word = time.monotonic(), now
                time.sleep(BEAT_SECONDS)

    def failed(self, error: BaseException) -> BaseException:
        """Tell the others that `error` ends this rank; what to end with, which is a LostRank if another is its cause.

        The first that meets such a rank names it on standard error.
        """
        store, self._leaving = self._store, True
        if store is None or isinstance(error, LostRank):
            return error
        mine = f"rank {distributed.rank()} has failed ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        lost = isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and OF_COLLECTIVES.search(str(error)) is not None
        )
        try:
            if lost:
                store.set(f"{FAILED} {distributed.rank()}", "")
                mine = self._who(store)
            line = store.compare_set(FAILED, "", mine).decode()
            if line == mine:
                self._await_stacks(store)
        except RuntimeError:  # the store went with its process
            line = mine = "rank 0 is gone, or the process that started the ranks"
        if not lost:
            return error
        if line == mine:
            print(
                f"ranks: {line}; to go on from the last checkpoint, type resume={self._directory}",
                file=sys.stderr,
                flush=True,
            )
        found = LostRank(line)
        found.__cause__ = error
        return found

    def _who(self, store: distributed_c10d.Store) -> str:
        """A line on the ranks that the others have waited for: those that are gone, or have not come."""
        ranks = [rank for rank in range(distributed.world_size()) if rank != distributed.rank()]
        before = {rank: self._word_of(store, rank) for rank in ranks}
        time.sleep(GONE_SECONDS)
        if store.check([FAILED]):
            return store.get(FAILED).decode()
        after = {rank: self._word_of(store, rank) for rank in ranks}
        if gone := [rank for rank in ranks if before[rank] == after[rank]]:
            words = [f"rank {rank} is gone, or does not answer (last seen in {_place(after[rank])})" for rank in gone]
            return "; ".join(words)
        late = [rank for rank in ranks if not store.check([f"{FAILED} {rank}"])]
        for rank in late:
            store.set(f"{HUNG} {rank}", "")
        words = [f"rank {rank}, which is in {_place(after[rank])}" for rank in late]
        seconds = f"hardware.timeout={self._timeout.total_seconds():g} s"
        return f"waited in vain ({seconds}) for {', and for '.join(words) or 'each other'}"

    def _await_stacks(self, store: distributed_c10d.Store) -> None:
        """Give ranks that hang the time to print their stacks: a launcher may end them with this one."""
        hung = [rank for rank in range(distributed.world_size()) if store.check([f"{HUNG} {rank}"])]
        end = time.monotonic() + GONE_SECONDS
        while time.monotonic() < end and not all(store.check([f"{PRINTED} {rank}"]) for rank in hung):
            time.sleep(BEAT_SECONDS)

    @staticmethod
    def _word_of(store: distributed_c10d.Store, rank: int) -> str:
        return store.get(f"{rank}").decode() if store.check([f"{rank}"]) else ""

    def _watch(self, store: distributed_c10d.Store) -> None:
        beat, told = 0, False
        while not self._over.wait(BEAT_SECONDS):
            beat += 1
            if beat % 4 == 1:
                self._arm()
            try:
                store.set(f"{distributed.rank()}", json.dumps([beat, *self._doing()]))
                if (number := signals.received()) is None and store.check([SIGNAL]):
                    signals.note(Signals(int(store.get(SIGNAL))))
                elif number is not None and not told:
                    store.set(SIGNAL, str(int(number)))
                    told = True
                if store.check([FAILED]):
                    if store.check([f"{HUNG} {distributed.rank()}"]):
                        self._print_stacks("the others have waited in vain for this rank")
                        store.set(f"{PRINTED} {distributed.rank()}", "")
                    self._leave(store.get(FAILED).decode())
                    return
            except (RuntimeError, ValueError):
                self._leave("rank 0 is gone, or the process that started the ranks")
                return

    def _arm(self) -> None:
        """Have the stacks printed and the process ended if this thread does not run again in time."""
        if sys.__stderr__ is not None:
            seconds = self._timeout.total_seconds() + MARGIN_SECONDS
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)

    def _doing(self) -> tuple[str, float]:
        """The phase that this rank is in, and for how many seconds."""
        running = self._clock.running()
        phase, _, seconds = min(running, key=lambda each: each[2], default=("between two phases", 0.0, 0.0))
        return phase, seconds

    def _leave(self, line: str) -> None:
        """Have this rank leave its work because another one has failed; end it if it does not."""
        distributed.lose(line)
        if not self._leaving:
            signals.note(Signals.SIGTERM)
        if self._over.wait(GRACE_SECONDS) or self._leaving:
            return
        self._print_stacks(f"ends, because {line}")
        os._exit(BUG)

    def _print_stacks(self, why: str) -> None:
        if sys.__stderr__ is not None:  # a process without standard error
            print(f"rank {distributed.rank()}: {why}; the stacks of its threads:", file=sys.__stderr__, flush=True)
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)


def _place(word: str) -> str:
    """`reward for 23 s` of what a rank said last."""
    if not word:
        return "the start"
    _, phase, seconds = json.loads(word)
    return f"{phase} for {seconds:.0f} s"
