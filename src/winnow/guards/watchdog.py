"""Watchdog: a thread that prints the stacks of all threads when a phase takes far longer than it did before."""

import faulthandler
import sys
import threading
from collections.abc import Iterator
from statistics import median
from typing import Self, TextIO

from winnow.experience.metrics import Clock


class Watchdog:
    """Watches the phases of `clock` from `with` to its end, and changes nothing that they do.

    A phase is late after `factor` times the median of its earlier durations, but never before `floor` seconds. One that
    has not ended before, such as the start-up, is late after `factor` times `floor`. Of a late phase the stacks are
    printed once, to `file` (standard error), which must have a descriptor. A `factor` of None turns the watchdog off.
    """

    def __init__(self, clock: Clock, factor: float | None, floor: float, file: TextIO | None = None) -> None:
        self._clock, self._factor, self._floor = clock, factor, floor
        self._file = sys.__stderr__ if file is None else file
        self._told: set[tuple[str, float]] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self._factor is not None:
            self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._floor / 10)):
            for line in self._late():
                self._print(line)

    def _late(self) -> Iterator[str]:
        """A line for each phase that has become late."""
        assert self._factor is not None
        for phase, started, seconds in self._clock.running():
            past = self._clock.durations(phase)
            limit = max(self._factor * median(past), self._floor) if past else self._factor * self._floor
            if seconds > limit and (phase, started) not in self._told:
                self._told.add((phase, started))
                usual = f"its median is {median(past):.3g} s" if past else "it has not ended before"
                yield f"watchdog: {phase} has taken {seconds:.3g} s so far, {usual}; the stacks of all threads:"

    def _print(self, line: str) -> None:
        if self._file is None:  # a process without standard error
            return
        print(line, file=self._file, flush=True)
        faulthandler.dump_traceback(self._file, all_threads=True)
