"""Where an iteration's seconds went."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall seconds by phase, added up until they are taken."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._started: dict[str, float] = {}

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        self.start(phase)
        try:
            yield
        finally:
            self.stop(phase)

    def start(self, phase: str) -> None:
        self._started[phase] = time.perf_counter()

    def stop(self, phase: str) -> None:
        """Add what has passed since the phase's start; nothing if it never started."""
        if (started := self._started.pop(phase, None)) is not None:
            self._seconds[phase] += time.perf_counter() - started

    def take(self) -> dict[str, float]:
        """`{"time/generate": 1.2, …}` since the last call."""
        taken = {f"time/{phase}": seconds for phase, seconds in self._seconds.items()}
        self._seconds.clear()
        return taken
