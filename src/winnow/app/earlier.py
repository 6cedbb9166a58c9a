"""What an earlier start of a sweep left in its directory: runs are known by what they compute, not by their numbers."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from winnow.app.resume import CHECKPOINTS, RECORDS
from winnow.app.saved import saved
from winnow.app.task import Task
from winnow.errors import ConfigError

IDLE = ("hydra", "resume", "logger", "checkpoint", "study")
"""Sections that reach no weight and no figure of a run."""
DEPTH = 3
"""Folders below a sweep's top in which its runs lie: `arm/seed_0`, of arms that lie in a folder themselves."""


def config_hash(cfg: DictConfig) -> str:
    """Twelve hexadecimal digits of the resolved configuration without what is idle: runs that share them are one run."""
    part = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in IDLE])
    plain = OmegaConf.to_container(part, resolve=True)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Earlier:
    """The runs of a sweep's directory by the hash of their configuration.

    `trace` is the pattern of what a run must have left to go on.
    """

    runs: dict[str, Path]
    trace: str
    promised: set[Path] = field(default_factory=set)

    @classmethod
    def below(cls, top: Path, task: object) -> "Earlier":
        found = ((_hash_of(directory), directory) for directory in _directories(top))
        trace = task.trace if isinstance(task, Task) else CHECKPOINTS
        return cls({name: directory for name, directory in found if name is not None}, trace)

    def place(self, cfg: DictConfig, planned: Path) -> Path:
        """Where the job of `cfg` ran already; else `planned`, or beside it where another run lies there."""
        name = config_hash(cfg)
        taken = planned in self.promised or planned in self.runs.values()
        directory = self.runs.get(name) or (planned.with_name(f"{planned.name}-{name}") if taken else planned)
        self.promised.add(directory)
        return directory

    def is_done(self, directory: Path) -> bool:
        try:
            return json.loads((directory / "summary.json").read_text()).get("status") == "done"
        except (OSError, json.JSONDecodeError):
            return False

    def can_go_on(self, directory: Path) -> bool:
        records = all((directory / ".hydra" / name).is_file() for name in RECORDS)
        return records and next(directory.glob(self.trace), None) is not None


def _directories(top: Path) -> Iterator[Path]:
    for depth in range(1, DEPTH + 1):
        yield from (path.parents[1] for path in sorted(top.glob("*/" * depth + ".hydra/config.yaml")))


def _hash_of(directory: Path) -> str | None:
    """None where a kill cut short what Hydra wrote."""
    try:
        return config_hash(saved(directory).cfg)
    except ConfigError:
        return None
