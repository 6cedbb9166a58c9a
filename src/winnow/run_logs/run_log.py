"""Log of a run, `run.log` in its directory: what the console said, and warnings of libraries, each with its time."""

import io
import logging
import sys
import warnings
from collections import deque
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from winnow.run_logs.console import SAID

FILE = "run.log"
MOST_BYTES = 4_000_000
"""Size at which the file becomes `run.log.1`, and that one is deleted."""
MOST_WAITING = 10_000
"""Lines that are kept until the run is accepted, before which nothing may be written."""
LIBRARIES = ("", "transformers", "huggingface_hub", "datasets", "pytorch_lightning", "lightning_fabric")
"""Loggers whose warnings are written: the root, and those of libraries that keep theirs from it."""
SEEN = "in_run_log"
"""Attribute of a record that has been handled."""
OWN_FILES = ("wandb",)
"""Packages that write logs of their own into the run directory."""


class RunLog(logging.Handler):
    """Handler that writes `run.log` from `open` on, with all lines since the start of its `with` block.

    A line that cannot be written is dropped: the run's own files say when a disk is full.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[logging.LogRecord] = deque(maxlen=MOST_WAITING)
        self._file: _File | None = None

    def __enter__(self) -> Self:
        for logger in (SAID, *map(logging.getLogger, LIBRARIES)):
            logger.addHandler(self)
        self._shown = warnings.showwarning
        warnings.showwarning = self._show
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            SAID.info("ended by %s: %s", type(error).__name__, error)
        warnings.showwarning = self._shown
        for logger in (SAID, *map(logging.getLogger, LIBRARIES)):
            logger.removeHandler(self)
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def open(self, directory: Path) -> None:
        """Begin to write `run.log` in the directory, behind the lines of earlier starts."""
        try:
            self._file = _File(directory / FILE, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8", errors="replace")
        except OSError:
            return
        self._file.setFormatter(_Line("%(asctime)s %(message)s"))
        while self._waiting:
            self._file.handle(self._waiting.popleft())

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, SEEN):  # by the logger of a library that passes its lines on to the root
            return
        setattr(record, SEEN, True)
        is_library = record.name != SAID.name
        if is_library and (record.levelno < logging.WARNING or record.name.split(".")[0] in OWN_FILES):
            return
        if self._file is None:
            self._waiting.append(record)
        else:
            self._file.handle(record)

    def _show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Show a warning of Python's as before, and write it."""
        self._shown(message, category, filename, lineno, file or sys.stderr, line)
        text = f"{category.__name__}: {message} ({filename}:{lineno})"
        self.emit(logging.LogRecord("warnings", logging.WARNING, filename, lineno, text, None, None))


class _File(RotatingFileHandler):
    """File without a buffer, which would try again, at the end, to write what a full disk has refused."""

    def _open(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.FileIO(self.baseFilename, "a"), self.encoding, self.errors, write_through=True)

    def handleError(self, record: logging.LogRecord) -> None: ...


class _Line(logging.Formatter):
    """A line of the file; a library's begins with its name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.name == SAID.name:
            return text
        return text.replace(record.message, f"{record.levelname} {record.name}: {record.message}", 1)
