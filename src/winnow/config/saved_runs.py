"""What a run directory says of how it was configured."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from winnow.errors import ConfigError


@dataclass(frozen=True)
class SavedRun:
    """The configuration as the run's program received it, and what was chosen of each config group."""

    directory: Path
    cfg: DictConfig
    choices: dict[str, str]


def read_saved_run(directory: Path) -> SavedRun:
    """
    Raises:
        ConfigError: it is no run directory.
    """
    try:
        cfg, hydra = (OmegaConf.load(directory / ".hydra" / name) for name in ("config.yaml", "hydra.yaml"))
        if isinstance(cfg, DictConfig) and isinstance(hydra, DictConfig):
            return SavedRun(directory, cfg, dict(hydra.hydra.runtime.choices))
    except OSError as error:
        raise ConfigError(
            f"{directory}: no run directory ({error.filename} is missing); type outputs/DAY/NAME"
        ) from error
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{directory}/.hydra: cannot be read ({' '.join(str(error).split())})") from error
    raise ConfigError(f"{directory}/.hydra: holds no configuration")


DEPTH = 3
"""Folders below a sweep's top in which its runs lie: `arm/seed_0`, of arms that lie in a folder themselves."""


def sweep_of(directory: Path) -> str | None:
    """The name of the sweep that a run directory belongs to: `2026-11-23/12-00-00-4f21ab`; None outside a sweep."""
    tops = (parent for parent in directory.parents[:DEPTH] if (parent / "multirun.yaml").is_file())
    return next((f"{top.parent.name}/{top.name}" for top in tops), None)
