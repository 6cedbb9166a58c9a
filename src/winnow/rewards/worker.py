"""A worker process: reads questions, answers each on one line, and is killed by the kernel where one takes too long.

It imports math-verify and never the trainer's main module, as a process of `multiprocessing` would (with torch in it: 250 MB and
seconds a worker, and an endless loop where a script has no `__main__` guard). A question is a (gold, answer) pair, answer None
asking whether the gold can be read; a request is a JSON list of them on one line.
"""

import json
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from time import perf_counter

from winnow.verdict import Verdict

Check = Callable[..., bool]  # of (gold, answer, **settings of the rule)


def serve(check: str, settings: dict[str, str | float | bool], timeout: float, memory_mb: int) -> None:
    """Answers requests until standard input closes, as it does when the parent goes, however it went."""
    out = os.dup(1)
    _limit(memory_mb)
    function = partial(_load(check), **settings)
    _silence()
    os.write(out, b"ready\n")
    for request in sys.stdin.buffer:
        for gold, answer in json.loads(request):
            os.write(out, _answer(function, gold, answer, timeout).encode())


def _answer(check: Check, gold: str, answer: str | None, timeout: float) -> str:
    """`verdict seconds`. Nothing is caught at the deadline: SIGALRM's default action ends the process, in C code as well."""
    start = perf_counter()
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        verdict = Verdict.correct if check(gold, answer) else Verdict.wrong
    except Exception:
        verdict = Verdict.crash
    signal.setitimer(signal.ITIMER_REAL, 0)
    return f"{verdict} {perf_counter() - start:.6f}\n"


def _limit(memory_mb: int) -> None:
    """Address space; no core dumps; Ctrl-C is the parent's affair; the deadline's signal as the kernel has it."""
    with suppress(ValueError, OSError):  # macOS has no such limit: there the deadline alone protects
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def _load(check: str) -> Check:
    module, _, name = check.partition(":")
    return getattr(import_module(module), name)


def _silence() -> None:
    """From here on the terminal belongs to the trainer: parsers print, math-verify logs every time limit it is not given."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
