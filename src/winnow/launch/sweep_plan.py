"""The jobs that a sweep expands to, before any of them starts."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from winnow.config.compose import Composer
from winnow.config.override_errors import composition_error
from winnow.config.saved_runs import DEPTH
from winnow.errors import ConfigError
from winnow.launch.resume import CHECKPOINTS, HYDRA_RECORDS
from winnow.launch.sweep_results import JobRow
from winnow.launch.task import Task
from winnow.study.arms import IDLE_SECTIONS
from winnow.study.statistics import detectable_difference


def jobs_of(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> list[list[str]]:
    """The overrides of each job; of a sweeper that chooses them as it goes, those without a sweep.

    Raises:
        ConfigError: a sweep over nothing.
    """
    if cfg.hydra.launcher.get("jobs", 1) < 1:
        raise ConfigError(f"hydra.launcher.jobs={cfg.hydra.launcher.jobs}: must be 1 or more, jobs at a time")
    overrides = composer.parse(lines)
    for_hydra = [str(o.input_line) for o in overrides if o.is_hydra_override()]
    for_jobs = [o for o in overrides if not o.is_hydra_override()]
    if not str(cfg.hydra.sweeper._target_).endswith(".BasicSweeper"):
        return [for_hydra + [str(o.input_line) for o in for_jobs if not o.is_sweep_override()]]
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    try:
        batches = BasicSweeper.split_arguments(composer.parse(params) + for_jobs, None)
    except HydraException as error:
        raise ConfigError(composition_error(error)) from error
    if not batches[0]:
        empty = next(str(o.input_line) for o in for_jobs if o.is_sweep_override() and not any(o.sweep_iterator()))
        raise ConfigError(f"{empty}: a sweep over nothing, no job to run; give it values, such as algo=raft,grpo")
    return [for_hydra + job for job in batches[0]]


def refuse_two_algorithms(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: `arm=` and `algo=` both say which algorithm.
    """
    typed = {o.get_key_element(): str(o.input_line) for o in composer.parse(lines)}
    chosen = typed.get("arm") or ("arm" in (cfg.hydra.sweeper.params or {}) and "the experiment's arm")
    if chosen and "algo" in typed:
        raise ConfigError(f"{typed['algo']}: {chosen} says which algorithm; leave one of them out")


def refuse_unchosen(composer: Composer, cfg: DictConfig, lines: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: the configuration says what to sweep over, and one run is asked for that leaves it open.
    """
    typed = {o.get_key_element() for o in composer.parse(lines)}
    open_keys = {str(key): str(values) for key, values in (cfg.hydra.sweeper.params or {}).items() if key not in typed}
    if open_keys:
        one = " ".join(f"{key}={values.split(',')[0]}" for key, values in open_keys.items())
        raise ConfigError(
            f"experiment={cfg.hydra.runtime.choices.experiment} is a sweep over {', '.join(open_keys)}; "
            f"type -m before it, or choose one: {one}"
        )


def config_hash(cfg: DictConfig) -> str:
    """Twelve hexadecimal digits of the resolved configuration without what is idle: runs that share them are one run."""
    part = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in IDLE_SECTIONS])
    plain = OmegaConf.to_container(part, resolve=True)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PreviousRuns:
    """The runs of a sweep's directory by the hash of their configuration."""

    runs: dict[str, Path]
    promised: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def below(cls, top: Path, task: object) -> "PreviousRuns":
        """Of a program whose words are completed from elsewhere the planned configuration is not the whole: none is known."""
        if not isinstance(task, Task) or task.trace != CHECKPOINTS:
            return cls({})
        found = ((_saved_hash(directory), directory) for directory in _run_directories(top))
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
        records = all((directory / ".hydra" / name).is_file() for name in HYDRA_RECORDS)
        return records and next(directory.glob(CHECKPOINTS), None) is not None


def _run_directories(top: Path) -> Iterator[Path]:
    for depth in range(1, DEPTH + 1):
        yield from (path.parents[1] for path in sorted(top.glob("*/" * depth + ".hydra/config.yaml")))


def _saved_hash(directory: Path) -> str | None:
    """None where a kill cut short what Hydra wrote."""
    try:
        cfg = OmegaConf.load(directory / ".hydra/config.yaml")
        return config_hash(cfg) if isinstance(cfg, DictConfig) else None
    except (OSError, YAMLError, OmegaConfBaseException):
        return None


def minimum_detectable_effect(rows: Sequence[JobRow], cfg: DictConfig) -> list[str]:
    """The difference between two arms that their common seeds find four times in five; nothing where seeds are not swept.

    `study.noise` is the standard deviation of such a difference in final accuracy, from earlier runs; without it the
    figure is in standard deviations.
    """
    seeds: dict[str, set[object]] = {}
    for row in rows:
        seeds.setdefault(_without_seed(row.overrides), set()).add(row.labels["seed"])
    fewest = min((len(found) for found in seeds.values()), default=0)
    if fewest < 2 or len(seeds) < 2:
        return []
    noise = OmegaConf.select(cfg, "study.noise")
    size = detectable_difference(fewest, sd=noise or 1.0)
    what = f"{100 * size:.1f} points of accuracy" if noise else f"{size:.1f} standard deviations of that difference"
    return [
        f"{len(seeds)} arms × {fewest} seeds: between two arms, paired by seed, a difference of {what} is found 4 times in 5"
    ]


def _without_seed(overrides: str) -> str:
    return " ".join(word for word in overrides.split() if not word.startswith("seed="))


@contextmanager
def directory_lock(top: Path) -> Iterator[int]:
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
