"""The trackers of a run, each in a thread of its own: one that fails, or does not answer, is turned off.

The record of a tracker is found again by its id, which a checkpoint keeps; several ids are one text, a JSON object.
"""

import json
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

from winnow.run_logs.run_files import SampleRecord, Summary
from winnow.run_logs.tracker import RunInfo, Tracker

ANSWER_SECONDS = 60.0
"""The longest wait for an answer of a tracker. W&B, which has limits of its own, takes 25 s at most."""
FIRST_TRACKER = "wandb"
"""The only tracker of versions whose checkpoints hold its bare id."""


class TrackerThread:
    """A tracker called in a daemon thread, in order. After an error, or `seconds` without an answer, it is off.

    `say` gets one line then. A thread that hangs is left behind; it does not keep the process from ending.
    """

    def __init__(self, name: str, tracker: Tracker, say: Callable[[str], None], seconds: float) -> None:
        self.name, self.tracker, self.say, self.seconds = name, tracker, say, seconds
        self.is_on = True
        self._calls: SimpleQueue[tuple[Callable[[], object], Future[object]]] = SimpleQueue()
        threading.Thread(target=self._answer, name=f"tracker {name}", daemon=True).start()

    def call(self, function: Callable[..., object], *args: object) -> object:
        """The result of the call; None if the tracker is off, or is turned off by it."""
        if not self.is_on:
            return None
        future: Future[object] = Future()
        self._calls.put((lambda: function(*args), future))
        try:
            error = future.exception(self.seconds)
        except TimeoutError:
            self._off(f"no answer within {self.seconds:g} s")
            return None
        if error is not None:
            self._off(f"{type(error).__name__}: {error}")
            return None
        return future.result()

    def _answer(self) -> None:
        while True:
            function, future = self._calls.get()
            try:
                future.set_result(function())
            except BaseException as error:  # a tracker may raise anything; the run is told by `call`
                future.set_exception(error)

    def _off(self, why: str) -> None:
        self.is_on = False
        short = textwrap.shorten(why, 160, placeholder=" …")
        self.say(f"logger {self.name} is off ({short}); the run goes on and metrics.jsonl has everything")


class Trackers:
    """The `Tracker` that passes everything on to the trackers of a run, by name; without any, it does nothing."""

    def __init__(
        self, trackers: Mapping[str, Tracker], say: Callable[[str], None], seconds: float = ANSWER_SECONDS
    ) -> None:
        self.threads = [TrackerThread(name, tracker, say, seconds) for name, tracker in trackers.items()]

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        """Begin, or continue under the ids in `run_id`; those of trackers that the run does without now are kept."""
        ids = ids_in(run_id)
        for thread in self.threads:
            found = thread.call(thread.tracker.start, directory, info, ids.get(thread.name))
            if isinstance(found, str):
                ids[thread.name] = found
        return json.dumps(ids)

    def log(self, row: Mapping[str, float | int]) -> None:
        for thread in self.threads:
            thread.call(thread.tracker.log, row)

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        for thread in self.threads:
            thread.call(thread.tracker.samples, iteration, records)

    def finish(self, summary: Summary, failed: bool) -> None:
        for thread in self.threads:
            thread.call(thread.tracker.finish, summary, failed)


def ids_in(kept: str | None) -> dict[str, str]:
    """The ids by tracker that a checkpoint holds."""
    if not kept:
        return {}
    try:
        found = json.loads(kept)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {FIRST_TRACKER: kept}
