"""Worker process of a `WorkerPool`: reads items and answers each on one line; the kernel kills it at a deadline.

A worker imports what it answers with, but never the trainer's main module. A process of `multiprocessing` would import
it, and torch with it: 250 MB and seconds for each worker, and an endless loop if a script has no `__main__` guard. The
first line of its input is a random token. A request is a pickled list of items, and an answer is one line: the token,
the item's number, and a JSON list `[value, seconds, error]`, where `error` is null or the last line of an exception.
The token and the number tell an answer from what a function itself writes to the pipe. Requests are pickled because
that takes a fifth of the time; answers are not, because a worker may have run what a model wrote.
"""

import fcntl
import json
import logging
import os
import pickle
import resource
import signal
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from winnow import signals

HIGH_DESCRIPTOR = 200
"""The descriptors of requests and answers are at least this, beyond those that a loop over the first few would hit."""

Answer = Callable[[Any], object]
"""An item → a JSON value."""


def serve(answer: str, settings: Mapping[str, Any], timeout: float, memory_mb: int, quiet: bool) -> None:
    """Answer requests until standard input closes, which it does when the parent ends, for whatever reason.

    `answer` is the `module:name` of a function of `settings` that makes the `Answer`. With `quiet`, nothing that the
    answers print reaches the terminal; otherwise it goes to standard error.
    """
    out, requests = _moved_up(1), os.fdopen(_moved_up(0), "rb")
    _take_signals_and_streams()
    os.register_at_fork(after_in_child=lambda: os.close(out))  # a forked child answers nothing
    token, numbers, process = requests.readline().strip(), count(), os.getpid()
    try:
        function = load(answer)(**settings)
    except BaseException as error:
        _write(out, token + f" failed {last_line(error)}\n".encode())
        os._exit(1)  # the parent says why, in one line
    if os.getpid() != process:  # what was imported or built forked, and this is the child
        os._exit(0)
    if quiet:
        _silence()
    _limit_memory(memory_mb)
    _write(out, token + b" ready\n")
    with suppress(EOFError):
        while True:
            for item in pickle.load(requests):
                _write(out, b"%b %d " % (token, next(numbers)) + _answered(function, item, timeout))


def load(name: str) -> Any:
    """The object `module:name`."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def written(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text.encode(errors="replace").decode()


def last_line(error: BaseException) -> str:
    """An exception on one line, as the last line of its traceback names it: `KeyError: 'level'`."""
    try:
        text = written(str(error))
    except BaseException as raised:  # the exception is a user's, and its text is computed by their code
        if signals.is_behind(raised):
            raise
        text = ""
    lines = text.strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()[:300]}" if lines else type(error).__name__


def _answered(function: Answer, item: object, timeout: float) -> bytes:
    """The line that answers `item`.

    No handler runs at the deadline: the default action of SIGALRM ends the process, even while it executes C code.
    """
    start, process, text, error = perf_counter(), os.getpid(), "null", None
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        text = json.dumps(function(item))
    except BaseException as raised:  # whatever it is, the item is answered, and the next one asked
        error = last_line(raised)
    if os.getpid() != process:  # the function forked, and this is the child, which came back from it too
        os._exit(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the function may have put a handler of its own there
    return f"[{text}, {perf_counter() - start:.6f}, {json.dumps(error)}]\n".encode()


def _write(out: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(out, rest) :]


def _moved_up(descriptor: int) -> int:
    """A copy of the descriptor with a high number, which the programs that this process starts do not inherit."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = HIGH_DESCRIPTOR if most == resource.RLIM_INFINITY else min(HIGH_DESCRIPTOR, most // 2)
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)


def _take_signals_and_streams() -> None:
    """Forbid core dumps, ignore Ctrl-C (the parent handles it), reset SIGALRM, and keep 0 and 1 from the answers."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)


def _limit_memory(memory_mb: int) -> None:
    """Bound the memory beyond what the process holds now.

    Reserved address space does not count, of which libraries with many threads take gigabytes.
    """
    with suppress(ValueError, OSError):  # macOS has no such limit: there the deadline alone protects
        most = _data_bytes() + (memory_mb << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _data_bytes() -> int:
    """Private writable memory of this process, as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def _silence() -> None:
    """Keep output off the trainer's terminal: parsers print, and math-verify logs that it has no time limit."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
