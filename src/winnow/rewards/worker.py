"""Worker process of a `WorkerPool`: reads items and answers each on one line; the kernel kills it at a deadline.

A worker imports what it answers with, but never the trainer's main module. A process of `multiprocessing` would import
it, and torch with it: 250 MB and seconds for each worker, and an endless loop if a script has no `__main__` guard. A
request is a pickled list of items, and an answer a JSON list `[value, seconds, error]` on one line, where `error` is
null or the last line of an exception. Requests are pickled because that takes a fifth of the time; answers are not,
because a worker may have run what a model wrote.
"""

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
from pathlib import Path
from time import perf_counter
from typing import Any

Answer = Callable[[Any], object]
"""An item → a JSON value."""


def serve(answer: str, settings: Mapping[str, Any], timeout: float, memory_mb: int, quiet: bool) -> None:
    """Answer requests until standard input closes, which it does when the parent ends, for whatever reason.

    `answer` is the `module:name` of a function of `settings` that makes the `Answer`. With `quiet`, nothing that the
    answers print reaches the terminal; otherwise it goes to standard error.
    """
    out, requests = os.dup(1), os.fdopen(os.dup(0), "rb")
    _take_signals_and_streams(quiet)
    try:
        function = load(answer)(**settings)
    except Exception as error:
        _write(out, f"failed {last_line(error)}\n".encode())
        raise
    if quiet:
        _silence()
    _limit_memory(memory_mb)
    _write(out, b"ready\n")
    with suppress(EOFError):
        while True:
            for item in pickle.load(requests):
                _write(out, _answered(function, item, timeout))


def load(name: str) -> Any:
    """The object `module:name`."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def last_line(error: BaseException) -> str:
    """An exception on one line, as the last line of its traceback names it: `KeyError: 'level'`."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()[:300]}" if lines else type(error).__name__


def _answered(function: Answer, item: object, timeout: float) -> bytes:
    """The line that answers `item`.

    No handler runs at the deadline: the default action of SIGALRM ends the process, even while it executes C code.
    """
    start, value, error = perf_counter(), None, None
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        value = function(item)
    except Exception as raised:  # whatever it is, the item is answered, and the next one asked
        error = last_line(raised)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the function may have put a handler of its own there
    return json.dumps([value, round(perf_counter() - start, 6), error]).encode() + b"\n"


def _write(out: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(out, rest) :]


def _take_signals_and_streams(quiet: bool) -> None:
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
