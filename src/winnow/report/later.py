"""Files and dashboards are written while the next iteration is already sampled."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec

P = ParamSpec("P")


class Later:
    """Does what it is given in order, in one thread beside; `wait` raises what went wrong, as the next `do` does."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._begun: list[Future[object]] = []

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """`args` must not change any more."""
        for past in [future for future in self._begun if future.done()]:
            self._begun.remove(past)
            past.result()
        self._begun.append(self._thread.submit(work, *args, **kwargs))

    def wait(self) -> None:
        """Until everything is done, whatever fails."""
        begun, self._begun = self._begun, []
        errors = [error for future in begun if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
