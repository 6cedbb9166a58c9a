"""Problems to evaluate on, and the verifier that their answers call for: what `conf/benchmark` builds."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from winnow.data.collection import Collection
from winnow.data.problems import Problem
from winnow.errors import ConfigError
from winnow.rewards.pool import VerifierPool


@dataclass(frozen=True)
class Benchmark(Collection):
    """A collection that is read from `path`, else from `folder`/NAME.jsonl (or NAME_test.jsonl), else from the hub."""

    name: str
    folder: str | None
    verifier: VerifierPool
    instead: ClassVar[str] = ", eval.folder=DIR, or eval.sets=[] for the dataset's own held-out rows"

    def load(self) -> list[Problem]:
        """
        Raises:
            ConfigError: as for any collection; or the folder has no file of this name.
        """
        return self.problems(f"benchmarks.{self.name}", self.verifier.check_golds, self._local())

    def _local(self) -> str | None:
        if self.path is not None or self.folder is None:
            return self.path
        candidates = [Path(self.folder) / f"{self.name}{suffix}.jsonl" for suffix in ("", "_test")]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            there = ", ".join(sorted(path.name for path in Path(self.folder).glob("*.jsonl"))) or "no JSONL file"
            raise ConfigError(
                f"eval.folder={self.folder}: no {candidates[0].name} there ({there}); "
                f"type benchmarks.{self.name}.path=FILE.jsonl, or another folder"
            )
        return str(found)
