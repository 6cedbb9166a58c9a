"""Signals that end a program: one handler for the process, and when a signal takes effect.

SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 end a program with the exit codes of `errors.EXIT_CODE_OF_SIGNAL`.
`install` is called before anything heavy is imported. From then on a signal raises `Stopped` wherever the main thread
is, except in a `deferred` context: there it is noted, and work that may be abandoned calls `check`, which raises
`Stopped`. A second signal ends the process at once, with 128 plus its number; but not within `ECHO_SECONDS` under
torchrun or submitit: they pass on what SLURM, or a terminal, has sent to every process of the job already.

A library may swallow an exception that is raised in its midst, and Python does so in weak references' callbacks: this
is why `check` also follows work in which a signal raises at once.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from winnow.errors import EXIT_CODE_OF_SIGNAL, Stopped

ECHO_SECONDS = 10.0
PASSED_ON_BY = ("TORCHELASTIC_RUN_ID", "SUBMITIT_EXECUTOR")
"""Environment variables by which programs are known that pass on signals."""
Handler = Callable[[int], None]
FIRST_RANK = "WINNOW_FIRST_RANK"
"""Environment variable with the process id of a run's first process, in those that it starts."""
_leave = os._exit  # by a name of its own, because `os._exit` is put aside while a user's module is imported


@dataclass
class _State:
    """State of the process: the signal that came, whether it waits for `check`, whether `Stopped` is caught, whether
    the process goes on afterwards, the words that answer the signal, and when it came."""

    received: signal.Signals | None = None
    deferred: bool = False
    caught: bool = False
    lent: bool = False
    words: Callable[[], str] = lambda: "ended before anything was computed"
    since: float = 0.0


_state = _State()


def install() -> None:
    """Install the handler for every signal that is not ignored: `nohup` has SIGHUP ignored, and means it."""
    for number in EXIT_CODE_OF_SIGNAL:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def received() -> signal.Signals | None:
    """The signal that ends this process, None until one has come."""
    return _state.received


def is_behind(error: BaseException) -> bool:
    """Whether an exception that came out of other people's code may be a signal's, and not their own `sys.exit`."""
    pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return received() is not None or isinstance(error, Stopped) or (isinstance(error, KeyboardInterrupt) and pythons)


def note(number: signal.Signals) -> None:
    """Take `number` as the signal that ends this process, as if it had come; one that came before stays."""
    if _state.received is None:
        _state.received, _state.since = number, time.monotonic()


def forget() -> None:
    """Take back what was noted, for a process that goes on with something else."""
    _state.received = None


def check() -> None:
    """Leave the work in hand if a signal has come. Any thread may call.

    Raises:
        Stopped: one has come.
    """
    if _state.received is not None:
        raise Stopped(EXIT_CODE_OF_SIGNAL[_state.received])


@contextmanager
def deferred() -> Iterator[None]:
    """Context in which a signal is only noted."""
    before, _state.deferred = _state.deferred, True
    try:
        yield
    finally:
        _state.deferred = before


@contextmanager
def caught() -> Iterator[None]:
    """Context whose caller catches `Stopped`. Outside of it, as while a program imports, a signal ends the process."""
    before, _state.caught = _state.caught, True
    try:
        yield
    finally:
        _state.caught = before


@contextmanager
def immediate() -> Iterator[None]:
    """Context, inside a `deferred` one, in which a first signal raises `Stopped` at once."""
    before, _state.deferred = _state.deferred, False
    first = _state.received is None
    try:
        yield
        if first:
            check()
    finally:
        _state.deferred = before


@contextmanager
def answered_by(words: Callable[[], str]) -> Iterator[None]:
    """Context in which a signal is answered on standard output by its name and `words()`."""
    before, _state.words = _state.words, words
    try:
        yield
    finally:
        _state.words = before


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Context in which every signal goes to `handler` alone."""
    before = {number: signal.getsignal(number) for number in EXIT_CODE_OF_SIGNAL}
    try:
        for number, former in before.items():
            if former is not signal.SIG_IGN:
                signal.signal(number, lambda received, frame: handler(received))
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def lent() -> Iterator[None]:
    """Context in which the handler is installed in a process that goes on afterwards, such as a notebook's.

    The former handlers then are back, and what came is forgotten. A second signal raises `Stopped` wherever the main
    thread is, instead of ending the process. In another thread no handler can be installed, and none is.
    """
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in EXIT_CODE_OF_SIGNAL} if here else {}
    _state.lent = True
    try:
        if here:
            install()
        with caught():
            yield
    finally:
        _state.lent = False
        forget()
        for number, former in before.items():
            signal.signal(number, former)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.received is not None:
        is_echo = time.monotonic() - _state.since < ECHO_SECONDS
        if is_echo and any(name in os.environ for name in PASSED_ON_BY):
            return
        if _state.lent:
            raise Stopped(EXIT_CODE_OF_SIGNAL[signal.Signals(number)])
        _leave(128 + number)
    _state.received, _state.since = signal.Signals(number), time.monotonic()
    _silence_closed_terminal()
    _say(f"{_state.received.name}: {_state.words()}")
    if not _state.deferred and not _state.caught:
        _leave(EXIT_CODE_OF_SIGNAL[_state.received])
    if not _state.deferred:
        check()


def _say(line: str) -> None:
    """Write a line past Python's buffer, in whose midst the signal may have come."""
    try:
        os.write(1, f"{line}\n".encode())
    except OSError:  # the terminal is closed, or the disk behind a redirection is full
        _discard(1)


def _silence_closed_terminal() -> None:
    """Discard later output to a terminal that was closed: otherwise it would be an error that ends the run."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            _discard(descriptor)


def _discard(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
