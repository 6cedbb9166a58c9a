"""One sweep at a time in a directory: two would run the same job beside each other, into the same files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from winnow.errors import ConfigError


@contextmanager
def locked(top: Path) -> Iterator[int]:
    """The descriptor of the lock. Jobs that inherit it keep the lock for as long as one of them lives, also without the sweep.

    Raises:
        ConfigError: another sweep, or a job that outlived one, has it.
    """
    descriptor = os.open(top, os.O_RDONLY)  # a directory can be locked: no file to leave behind
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{top}: another sweep, or a job that an ended one left, runs here; wait for it, or choose hydra.sweep.dir"
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
