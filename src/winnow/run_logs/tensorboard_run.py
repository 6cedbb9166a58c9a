"""TensorBoard tracker: Lightning's logger, which writes the run's event files to `tensorboard/` in its directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from winnow.installed import require_package
from winnow.run_logs.run_files import SampleRecord, Summary
from winnow.run_logs.tracker import RunInfo

FOLDER = "tensorboard"
SHOWN_SAMPLES = 8
"""Responses of an iteration that are shown as texts."""


class TensorBoardTracker:
    """Tracker of one run in TensorBoard (`logger=tensorboard`); the step is the iteration.

    A resume adds an event file that tells TensorBoard to forget the steps from its first iteration on.
    """

    def __init__(self) -> None:
        self.directory = Path()
        self.info: RunInfo | None = None
        self.logger: TensorBoardLogger | None = None

    @staticmethod
    def require() -> None:
        """Check that tensorboard is installed, which Lightning's logger needs.

        Raises:
            ConfigError: it is not.
        """
        require_package("tensorboard", "logger=tensorboard", "tensorboard")

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        self.directory, self.info = directory, info
        return FOLDER

    def log(self, row: Mapping[str, float | int]) -> None:
        """Record the row. Each row reaches the disk at once, so that a killed run keeps it."""
        logger = self._opened(int(row["iteration"]))
        logger.log_metrics({key: value for key, value in row.items() if key != "iteration"}, int(row["iteration"]))
        logger.experiment.flush()

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Record the first responses of the iteration as texts."""
        writer = self._opened(iteration).experiment
        for number, record in enumerate(records[:SHOWN_SAMPLES]):
            text = f"{record.prompt}{record.response}".encode(errors="replace").decode()
            indented = "".join(f"    {line}\n" for line in text.split("\n"))
            writer.add_text(f"samples/{number}", f"{record.verdict}, reward {record.reward}\n\n{indented}", iteration)

    def finish(self, summary: Summary, failed: bool) -> None:
        if self.logger is not None:
            self.logger.finalize("failed" if failed else "success")

    def _opened(self, iteration: int) -> TensorBoardLogger:
        """The logger. It opens with the first iteration that it records, from which TensorBoard forgets old steps."""
        if self.logger is None:
            self.logger = TensorBoardLogger(
                self.directory, name=FOLDER, version="", default_hp_metric=False, purge_step=iteration
            )
            if self.info is not None:
                config = json.dumps(self.info.config, indent=1, default=str, ensure_ascii=False)
                indented = "".join(f"    {line}\n" for line in config.split("\n"))
                self.logger.experiment.add_text("configuration", indented, iteration)
        return self.logger
