"""Configuration of an earlier run, as Hydra saved it in the run directory."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from winnow.config.override_errors import one_line, target_nodes
from winnow.errors import ConfigError


@dataclass(frozen=True)
class SavedRun:
    """Configuration as the run's program received it, Hydra's own settings, and the overrides that were typed."""

    directory: Path
    cfg: DictConfig
    hydra: DictConfig
    overrides: list[str]

    @property
    def choices(self) -> dict[str, str]:
        """The option chosen for each config group."""
        return dict(self.hydra.runtime.choices)

    def refuse_removed_targets(self, subject: str, instead: str) -> None:
        """Refuse to use the configuration where an earlier version of Winnow wrote it.

        Raises:
            ConfigError: it names a class or function of Winnow that no longer exists. The message begins with `subject`
                and ends with `instead`.
        """
        for _, node in target_nodes(self.cfg):
            if (target := str(node["_target_"])).startswith("winnow.") and not _exists(target):
                raise ConfigError(
                    f"{subject}: was made by an earlier version of Winnow (its configuration names {target}, which no "
                    f"longer exists); {instead}"
                )


def _exists(target: str) -> bool:
    module, _, name = target.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ModuleNotFoundError as error:
        # An optional package that is not installed here says nothing about the version.
        return not str(error.name).startswith("winnow.")


def read_saved_run(directory: Path) -> SavedRun:
    """Read what Hydra saved under `directory/.hydra`.

    Raises:
        ConfigError: it is no run directory, or a file in it is missing or damaged.
    """
    try:
        cfg, hydra, overrides = (
            OmegaConf.load(directory / ".hydra" / f"{name}.yaml") for name in ("config", "hydra", "overrides")
        )
    except OSError as error:
        raise ConfigError(
            f"{directory}: no run directory ({error.filename} is missing); type outputs/DAY/NAME"
        ) from error
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{directory}/.hydra: cannot be read ({one_line(str(error))})") from error
    if isinstance(cfg, DictConfig) and isinstance(hydra, DictConfig) and isinstance(overrides, ListConfig):
        return SavedRun(directory, cfg, hydra.hydra, list(overrides))
    raise ConfigError(f"{directory}/.hydra: holds no configuration")


DEPTH = 3
"""Levels of directories below a sweep's that may hold its runs: `arm/seed_0`, or one more where arms are grouped."""


def sweep_of(directory: Path) -> str | None:
    """The name of the sweep that a run directory belongs to: `2026-11-23/12-00-00-4f21ab`; None outside a sweep."""
    tops = (parent for parent in directory.parents[:DEPTH] if (parent / "multirun.yaml").is_file())
    return next((f"{top.parent.name}/{top.name}" for top in tops), None)
