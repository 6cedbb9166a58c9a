"""What an experiment tracker is to a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from winnow.run_logs.run_files import SampleRecord, Summary


class Tracker(Protocol):
    """Follows one run from `start` to `finish`. None of its methods may stop the run."""

    def start(
        self,
        directory: Path,
        config: Mapping[str, object],
        name: str,
        group: str | None,
        tags: Sequence[str],
        run_id: str | None,
    ) -> str:
        """Begin, and return the id under which a resumed run goes on; `run_id` is the one that a checkpoint kept."""
        ...

    def log(self, row: Mapping[str, float | int]) -> None:
        """Record an iteration's row of `metrics.jsonl`."""
        ...

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Show some of an iteration's responses; best called before its `log`."""
        ...

    def finish(self, summary: Summary, failed: bool) -> None: ...


class NullTracker:
    """`logger=none`: the run directory is all there is."""

    def start(
        self,
        directory: Path,
        config: Mapping[str, object],
        name: str,
        group: str | None,
        tags: Sequence[str],
        run_id: str | None,
    ) -> str:
        return run_id or ""

    def log(self, row: Mapping[str, float | int]) -> None: ...

    def samples(self, iteration: int, records: Sequence[SampleRecord]) -> None: ...

    def finish(self, summary: Summary, failed: bool) -> None: ...
