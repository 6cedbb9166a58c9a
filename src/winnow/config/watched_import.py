"""Import of a module of the user's own: one that ends the program, or does not come to an end, is named in one line."""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from winnow.errors import CONFIG
from winnow.visible_text import message

SLOW_SECONDS = 10.0
"""Seconds after which a module that is being imported is named."""
MOST_SECONDS = 120.0
"""Seconds after which the program ends without it: as long as a worker process may take to import the same."""


class Left(SystemExit):
    """A call of `os._exit` by a module that is being imported."""

    def __init__(self, code: object) -> None:
        super().__init__(code)
        self.words = f"os._exit({code})"


def ending_in_words(error: BaseException) -> str:
    """The end of an import that raised no ordinary error, in words."""
    return f"its import ended with {error.words if isinstance(error, Left) else type(error).__name__}"


@contextmanager
def watched_import(where: str, limited: bool = True) -> Iterator[None]:
    """Context of an import, which is named by `where` in what is said about it.

    One that takes long is named, so that nobody waits without knowing for what. With `limited`, for modules that are
    not Winnow's, one that takes `MOST_SECONDS` ends the program, with the stack that shows where it hangs and one line:
    nothing that it does can be taken back. `os._exit` in it raises `Left`. Another process would see more, such as a
    module that kills itself, but would import everything twice, torch included.
    """
    given = f", for which {MOST_SECONDS:g} s are given" if limited else ""
    with _timer(SLOW_SECONDS, lambda: _say(f"{where}: is still being imported{given}")):
        if not limited:
            yield
            return
        leave = os._exit
        with _timer(MOST_SECONDS, lambda: _end(where, leave)), _shown_crashes():
            os._exit = _raising(leave)
            try:
                yield
            finally:
                os._exit = leave


@contextmanager
def _timer(seconds: float, then: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _shown_crashes() -> Iterator[None]:
    """Context in which a module that crashes the interpreter is shown with its line."""
    before = faulthandler.is_enabled()
    if not before:
        faulthandler.enable(2)
    try:
        yield
    finally:
        if not before:
            faulthandler.disable()


def _raising(leave: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
    """`os._exit` for the process and the thread at hand; a child that a module forks, and other threads, do `leave`."""
    process, thread = os.getpid(), threading.get_ident()

    def left(code: int) -> NoReturn:
        if os.getpid() == process and threading.get_ident() == thread:
            raise Left(code)
        leave(code)

    return left


def _end(where: str, leave: Callable[[int], NoReturn]) -> None:
    """End the program from a thread beside the import, which may wait for something that no exception reaches."""
    faulthandler.dump_traceback(2, all_threads=True)
    _say(
        message(f"error: {where}: its import has not ended after {MOST_SECONDS:g} s; the stack above shows where it is")
    )
    with suppress(Exception):
        sys.stdout.flush()
    leave(CONFIG)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
