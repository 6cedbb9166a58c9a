"""Answers of a worker process that do what their item says to the process or to its pipe. An item is (deed, value)."""

import contextlib
import os
import stat
import sys
import threading
import time

REPLY = b"[1, 0.1, null]\n"


def answer_of():
    return answer


def answer(item):
    deed, value = item
    if deed in DEEDS:
        DEEDS[deed]()
    return value


def pipes():
    """Descriptors that this process can write to and that are pipes, as a forger would look for them."""
    found = [int(name) for name in os.listdir("/proc/self/fd")]
    return [n for n in found if n > 2 and _is_pipe(n)]


def _is_pipe(number):
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False


def written(data):
    def deed():
        for number in pipes():
            with contextlib.suppress(OSError):
                os.write(number, data)

    return deed


def low():
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(number, REPLY)


def fork_and_stay():
    if os.fork() == 0:
        time.sleep(1)


def fork_and_raise():
    if os.fork() == 0:
        raise ValueError


def later():
    threading.Timer(0.2, written(b"late\n")).start()


def fail(error):
    raise error


class Unspoken(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Unbuilt:
    def __init__(self, path):
        self.path = path

    def __call__(self, completions):
        return [1.0] * len(completions)


def starred(*completions):
    return [1.0] * len(completions)


def leave(completions):
    return [sys.exit(3) if completion == "9" else 1.0 for completion in completions]


def interrupt(completions):
    return [fail(KeyboardInterrupt()) if completion == "9" else 1.0 for completion in completions]


def unspoken(completions):
    return [fail(Unspoken()) if completion == "9" else 1.0 for completion in completions]


def odd_logs(completions, log_extra, log_metric):
    log_extra("a\ud800", ["b\ud800"] * len(completions))
    log_extra("many digits", [-(10**5000)] * len(completions))
    log_metric("c\ud800", 1.0)
    return [1.0] * len(completions)


DEEDS = {
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: fail(KeyboardInterrupt()),
    "unspoken": lambda: fail(Unspoken()),
    "half a pair": lambda: fail(ValueError("a\ud800")),
    "fork": os.fork,
    "fork and stay": fork_and_stay,
    "fork and raise": fork_and_raise,
    "garbage": written(b"[garbage\n"),
    "no line": written(b"garbage" * 1000),
    "bytes": written(b"\xff\xfe\n"),
    "forged": written(REPLY),
    "forged with a token": written(b"0123456789abcdef 0 " + REPLY),
    "low": low,
    "later": later,
}
