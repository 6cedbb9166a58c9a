"""Settings of Lightning's Trainer that change nothing of what is learnt (`trainer=`), and its `callbacks=`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from winnow.training.observers import ObservedMetrics, WatchedCallback

PROFILERS: Mapping[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
FOLDER = "profile"
"""Folder of a run directory that the profiler writes to."""


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """Arguments of Lightning's Trainer by their own names, with its defaults, and the run's `callbacks` by name."""

    profiler: str | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    enable_progress_bar: bool = True
    enable_model_summary: bool = False
    callbacks: Mapping[str, pl.Callback] = field(default_factory=dict)

    def profiler_in(self, directory: Path) -> Profiler | None:
        """The profiler, which writes to `profile/` in the directory; None without one."""
        if self.profiler is None:
            return None
        return PROFILERS[self.profiler](dirpath=directory / FOLDER, filename=self.profiler)  # pyright: ignore[reportCallIssue]

    def watched(self) -> list[pl.Callback]:
        """The callbacks, each under watch."""
        return [WatchedCallback(name, callback) for name, callback in self.callbacks.items()]

    def logger(self) -> ObservedMetrics | None:
        """The logger that the callbacks log to; None without callbacks."""
        return ObservedMetrics() if self.callbacks else None
