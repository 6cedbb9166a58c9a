"""trackio tracker, with its database in the run directory. Lightning has no logger for trackio."""

import contextlib
import importlib
import io
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from winnow.installed import require_package
from winnow.run_logs.run_files import SampleRecord, Summary
from winnow.run_logs.tracker import RunInfo

FOLDER = "trackio"
VARIABLE = "TRACKIO_DIR"
NAME_LENGTH = 80


class TrackioTracker:
    """Tracker of one run in trackio (`logger=trackio`); the step is the iteration.

    trackio keeps every value that it gets, so that iterations which a resume computes again are not sent again: they
    are the same but for times.

    Args:
        space: A Hugging Face Space, OWNER/NAME, that gets the metrics too; None: they stay on this machine.
    """

    def __init__(self, project: str = "winnow", space: str | None = None) -> None:
        self.project, self.space = project, space
        self.run: Any = None  # trackio's own, whose type is known only where trackio is installed
        self.last = -1

    @staticmethod
    def require() -> None:
        """Check that trackio is installed.

        Raises:
            ConfigError: it is not.
        """
        require_package("trackio", "logger=trackio", "trackio")

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        """Open the run, or continue the one of that name, which is its id at trackio."""
        name = run_id or f"{info.name[:NAME_LENGTH]} {info.config.get('run', directory.name)}"
        with _quiet():
            trackio = _imported(directory)
            self.run = trackio.init(
                self.project,
                name=name,
                group=info.group,
                space_id=self.space,
                config={"winnow": dict(info.config)},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
            last = storage.get_max_step_for_run(self.project, name, run_id=self.run.id)
        self.last = -1 if last is None else last
        return name

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send the row, unless trackio has that iteration; without what is not finite, which it cannot draw."""
        step = int(row["iteration"])
        if self.run is not None and step > self.last:
            self.run.log({key: value for key, value in row.items() if math.isfinite(value)}, step=step)
            self.last = step

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None: ...

    def finish(self, summary: Summary, failed: bool) -> None:
        if self.run is not None:
            with _quiet():
                self.run.finish()


def _imported(directory: Path) -> Any:
    """trackio with this run's directory, unless TRACKIO_DIR names another; it reads that when it is imported."""
    if VARIABLE in os.environ:
        return importlib.import_module("trackio")
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:  # with another run's directory
        del sys.modules[name]
    os.environ[VARIABLE] = str((directory / FOLDER).absolute())
    try:
        return importlib.import_module("trackio")
    finally:
        del os.environ[VARIABLE]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without trackio's advice on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
