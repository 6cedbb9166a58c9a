"""Writing beside the training: files and the tracker are written while the next iteration already runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec

P = ParamSpec("P")


class BackgroundWriter:
    """Single background thread that runs submitted work in order; errors surface in a later `do` or in `wait`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._begun: list[Future[object]] = []

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Submit `work`. The caller must not change `args` afterwards. Raises the error of earlier work that failed."""
        for past in [future for future in self._begun if future.done()]:
            self._begun.remove(past)
            past.result()
        self._begun.append(self._thread.submit(work, *args, **kwargs))

    def wait(self) -> None:
        """Wait until all submitted work has ended, then raise the first error if any of it failed."""
        begun, self._begun = self._begun, []
        errors = [error for future in begun if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
