"""Verification worker process: reads questions and answers each on one line; the kernel kills it at a deadline.

A worker imports math-verify but never the trainer's main module. A process of `multiprocessing` would import it, and
torch with it: 250 MB and seconds for each worker, and an endless loop if a script has no `__main__` guard. A question
is a (gold, answer) pair, where an answer of None asks whether the gold can be read. A request is a JSON list of
questions on one line.
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
    """Answer requests until standard input closes, which it does when the parent ends, for whatever reason."""
    out = os.dup(1)
    _limit(memory_mb)
    function = partial(_load(check), **settings)
    _silence()
    os.write(out, b"ready\n")
    for request in sys.stdin.buffer:
        for gold, answer in json.loads(request):
            os.write(out, _answer(function, gold, answer, timeout).encode())


def _answer(check: Check, gold: str, answer: str | None, timeout: float) -> str:
    """One line, `verdict seconds`.

    No handler runs at the deadline: the default action of SIGALRM ends the process, even while it executes C code.
    """
    start = perf_counter()
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        verdict = Verdict.correct if check(gold, answer) else Verdict.wrong
    except Exception:
        verdict = Verdict.crash
    signal.setitimer(signal.ITIMER_REAL, 0)
    return f"{verdict} {perf_counter() - start:.6f}\n"


def _limit(memory_mb: int) -> None:
    """Bound the address space, forbid core dumps, ignore Ctrl-C (the parent handles it), and reset SIGALRM."""
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
    """Keep output off the trainer's terminal: parsers print, and math-verify logs that it has no time limit."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
