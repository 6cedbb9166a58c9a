"""Errors that end a program, and its exit codes."""

import signal

DONE, BUG, CONFIG, DIVERGED, DISK, PREEMPTED, INTERRUPTED = 0, 1, 2, 3, 74, 75, 130
DIFFERS, UNDECIDED = 4, 5
"""Exit codes of `winnow audit` beside 0 for equal."""
NOT_REPRODUCED = 4
"""Exit code of `winnow replay` beside 0 for reproduced."""
EXIT_CODE_OF_SIGNAL = {
    signal.SIGINT: INTERRUPTED,
    signal.SIGTERM: PREEMPTED,
    signal.SIGHUP: PREEMPTED,  # the terminal was closed
    signal.SIGUSR1: PREEMPTED,
    signal.SIGUSR2: PREEMPTED,  # submitit's word for a preemption
}
"""Signals on which a run saves its progress and ends, with the exit code that tells them apart (75 is EX_TEMPFAIL)."""


class ConfigError(Exception):
    """Invalid input: one line that says what is wrong, where, and what to type instead.

    Programs print it without a traceback and exit with code 2.
    """


class Diverged(Exception):
    """Training that cannot go on: repeated non-finite numbers, or samples that are not the policy's. Exit code 3."""


class DiskFailure(Exception):
    """A disk that has no room, or cannot be written, where the program has to write. Exit code 74 (EX_IOERR)."""


class LostRank(Exception):
    """A rank of a distributed run that is gone, or that the others have waited for in vain. Exit code 1.

    The rank that meets it first has said so.
    """


class Stopped(BaseException):
    """A signal that ends the program; `code` is the exit code.

    No library's `except Exception` may take it for a failure of its own, so it is none.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by a signal, exit code {code}")
        self.code = code
