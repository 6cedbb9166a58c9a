"""What an earlier start of a sweep left in its directory: runs are known by what they compute, not by their numbers."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from winnow.app.resume import CHECKPOINTS, RECORDS
from winnow.app.summary import DEPTH
from winnow.app.task import Task
from winnow.errors import ConfigError
from winnow.study.arms import IDLE


def config_hash(cfg: DictConfig) -> str:
    """Twelve hexadecimal digits of the resolved configuration without what is idle: runs that share them are one run."""
    part = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in IDLE])
    plain = OmegaConf.to_container(part, resolve=True)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Earlier:
    """The runs of a sweep's directory by the hash of their configuration."""

    runs: dict[str, Path]
    promised: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def below(cls, top: Path, task: object) -> "Earlier":
        """Of a program whose words are completed from elsewhere the planned configuration is not the whole: none is known."""
        if not isinstance(task, Task) or task.trace != CHECKPOINTS:
            return cls({})
        found = ((_hash_of(directory), directory) for directory in _directories(top))
        return cls({name: directory for name, directory in found if name is not None})

    def place(self, cfg: DictConfig, planned: Path) -> Path:
        """Where the job of `cfg` ran already; else `planned`, or beside it where another run lies there.

        Raises:
            ConfigError: another job of the sweep is the same run.
        """
        name = config_hash(cfg)
        if name in self.promised:
            raise ConfigError(f"{self.promised[name]}: two jobs of this sweep are the same run; name each value once")
        taken = planned in self.promised.values() or planned in self.runs.values()
        directory = self.runs.get(name) or (planned.with_name(f"{planned.name}-{name}") if taken else planned)
        self.promised[name] = directory
        return directory

    def is_done(self, directory: Path) -> bool:
        if directory not in self.runs.values():
            return False
        try:
            return json.loads((directory / "summary.json").read_text()).get("status") == "done"
        except (OSError, json.JSONDecodeError):
            return False

    def can_go_on(self, directory: Path) -> bool:
        if directory not in self.runs.values():
            return False
        records = all((directory / ".hydra" / name).is_file() for name in RECORDS)
        return records and next(directory.glob(CHECKPOINTS), None) is not None


def _directories(top: Path) -> Iterator[Path]:
    for depth in range(1, DEPTH + 1):
        yield from (path.parents[1] for path in sorted(top.glob("*/" * depth + ".hydra/config.yaml")))


def _hash_of(directory: Path) -> str | None:
    """None where a kill cut short what Hydra wrote."""
    try:
        cfg = OmegaConf.load(directory / ".hydra/config.yaml")
        return config_hash(cfg) if isinstance(cfg, DictConfig) else None
    except (OSError, YAMLError, OmegaConfBaseException):
        return None
