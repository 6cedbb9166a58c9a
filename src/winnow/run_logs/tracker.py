"""Experiment trackers: the interface, the description of a run that they get, and the tracker that does nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from winnow.run_logs.run_files import SampleRecord, Summary


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Names and configuration of a run, for its summary and its tracker.

    `name`, `group` (the sweep, if any) and `tags` are the run's at the tracker; `config` is the resolved configuration.
    `prompt_hash` is the hash of the first training problem's rendered prompt. `revisions` are the commits of the hub
    datasets that were read, by the name of the dataset or benchmark.
    """

    algo: str
    model: str
    dataset: str
    seed: int
    prompt_hash: str
    name: str
    group: str | None
    tags: Sequence[str]
    config: Mapping[str, object]
    revisions: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Interface to an experiment tracker, which follows one run from `start` to `finish`.

    No method may stop the run, whatever fails at the tracker.
    """

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        """Begin, and return the id under which a resumed run continues; a checkpoint gives it back as `run_id`."""
        ...

    def log(self, row: Mapping[str, float | int]) -> None:
        """Record an iteration's row of `metrics.jsonl`."""
        ...

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Show some of an iteration's responses. Call it before the iteration's `log`."""
        ...

    def finish(self, summary: Summary, failed: bool) -> None:
        """End the run."""
        ...


class NullTracker:
    """Tracker that does nothing: a base for others, and what configurations of earlier versions name for no tracker."""

    def start(self, directory: Path, info: RunInfo, run_id: str | None) -> str:
        return run_id or ""

    def log(self, row: Mapping[str, float | int]) -> None: ...

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None: ...

    def finish(self, summary: Summary, failed: bool) -> None: ...
