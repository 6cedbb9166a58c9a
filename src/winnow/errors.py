"""Errors that speak to the person who typed, and the exit codes of the contract."""

DONE, BUG, CONFIG, DIVERGED, PREEMPTED, INTERRUPTED = 0, 1, 2, 3, 75, 130


class ConfigError(Exception):
    """One line: what is wrong, where, and what to type instead. Printed without a traceback; exit code 2."""


class Diverged(Exception):
    """Numbers that are not finite, again and again, or samples that are not the policy's. Exit code 3."""


class Stopped(Exception):
    """A signal ended the run after a checkpoint; `code` is what to exit with."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by a signal, exit code {code}")
        self.code = code
