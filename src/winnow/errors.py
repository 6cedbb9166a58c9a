"""Errors that end a program, and its exit codes."""

import signal

DONE, BUG, CONFIG, DIVERGED, PREEMPTED, INTERRUPTED = 0, 1, 2, 3, 75, 130
DIFFERS, UNDECIDED = 4, 5
"""Exit codes of `winnow audit` beside 0 for equal."""
NOT_REPRODUCED = 4
"""Exit code of `winnow replay` beside 0 for reproduced."""
EXIT_CODE_OF_SIGNAL = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: PREEMPTED, signal.SIGUSR1: PREEMPTED}
"""Signals on which a run saves its progress and ends, with the exit code that tells them apart (75 is EX_TEMPFAIL)."""


class ConfigError(Exception):
    """Invalid input: one line that says what is wrong, where, and what to type instead.

    Programs print it without a traceback and exit with code 2.
    """


class Diverged(Exception):
    """Training that cannot go on: repeated non-finite numbers, or samples that are not the policy's. Exit code 3."""


class Stopped(Exception):
    """A signal that ended the run after it saved its progress; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by a signal, exit code {code}")
        self.code = code
