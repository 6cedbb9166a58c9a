"""Configuration of an earlier run, as Hydra saved it in the run directory, and what a resume changes in it."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from winnow.config.override_errors import one_line, target_nodes
from winnow.config.own_files import import_beside
from winnow.errors import ConfigError
from winnow.files import regular_file, replace_text

FOLDER = ".hydra"
MAY_CHANGE = frozenset(
    ("iterations", "budget", "eval", "checkpoint", "logger", "trainer", "callbacks", "debug", "hardware")
) | {"guards", "checks", "alarms", "watchdog", "task_name", "extras", "optimized_metric", "hparams_search"}
"""Sections that a resume may change. All others say what the run computes, or on what."""
ABOUT_RESUMING = frozenset(("resume", "resume_force"))


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

    @property
    def config_dir(self) -> str | None:
        """The directory of own YAML files that the run was given; None without one, or if it has since gone."""
        paths = [source.path for source in self.hydra.runtime.config_sources if source.provider == "command-line"]
        return next((path for path in paths if Path(path).is_dir()), None)  # a run has at most one

    def import_plugins(self) -> None:
        """Have the packages that the run trusts imported from beside its `config_dir`, as they were for the run."""
        import_beside(self.config_dir, [str(plugin) for plugin in self.cfg.get("plugins") or []])

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


def directory_named(key: str, value: object) -> Path:
    """The directory that a setting names, whether or not it exists.

    Raises:
        ConfigError: no directory can have such a name.
    """
    directory = Path(str(value))
    try:
        directory.is_dir()
    except (OSError, ValueError) as error:  # a name of thousands of characters
        raise ConfigError(f"{key}={directory}: no such directory ({error.__class__.__name__})") from error
    return directory


def read_saved_run(directory: Path, folder: str = FOLDER) -> SavedRun:
    """Read what Hydra saved under `directory/.hydra`, or in another `folder` that a resume kept there.

    Raises:
        ConfigError: it is no run directory, or a file in it is missing or damaged.
    """
    try:
        paths = (regular_file(directory / folder / f"{name}.yaml") for name in ("config", "hydra", "overrides"))
        cfg, hydra, overrides = map(OmegaConf.load, paths)
    except OSError as error:
        raise ConfigError(
            f"{directory}: no run directory ({error.filename} is missing); type outputs/DAY/NAME"
        ) from error
    except (YAMLError, OmegaConfBaseException, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{directory / folder}: cannot be read ({one_line(str(error))})") from error
    if (
        isinstance(cfg, DictConfig)
        and isinstance(hydra, DictConfig)
        and isinstance(overrides, ListConfig)
        and len(cfg) > 0
        and OmegaConf.select(hydra, "hydra.runtime.choices") is not None
    ):
        return SavedRun(directory, cfg, hydra.hydra, list(overrides))
    raise ConfigError(f"{directory / folder}: holds no configuration")


DEPTH = 3
"""Levels of directories below a sweep's that may hold its runs: `arm/seed_0`, or one more where arms are grouped."""


def sweep_of(directory: Path) -> str | None:
    """The name of the sweep that a run directory belongs to: `2026-11-23/12-00-00-4f21ab`; None outside a sweep."""
    tops = (parent for parent in directory.parents[:DEPTH] if (parent / "multirun.yaml").is_file())
    return next((f"{top.parent.name}/{top.name}" for top in tops), None)


@dataclass(frozen=True, slots=True)
class Change:
    """A setting, by its dotted key, or an option of a config group that differs between two configurations of a run.

    A setting that one of them lacks is `MISSING_SETTING` there.
    """

    key: str
    old: object
    new: object

    @property
    def section(self) -> str:
        return self.key.split("/")[0].split("@")[0].split(".")[0]

    @property
    def is_allowed(self) -> bool:
        """Whether a resume may make the change without `resume_force=true`."""
        return self.section in MAY_CHANGE

    def __str__(self) -> str:
        return f"{self.key} was {self.old} and is {self.new}"


MISSING_SETTING = "absent"


def changes(run: SavedRun, cfg: DictConfig, choices: Mapping[str, object]) -> list[Change]:
    """The settings and options in which `cfg` and `choices` differ from the saved ones, options first.

    An option inside of a group, such as `algo/clip`, that sets what the other one set is no change: another version of
    Winnow may have it under another name.

    Raises:
        ConfigError: the saved configuration refers to a key that does not exist.
    """
    try:
        saved = dict(_leaves(run.cfg))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{run.directory}/{FOLDER}: cannot be read ({one_line(str(error))})") from error
    old, new = run.choices, {str(key): option for key, option in choices.items()}
    options = [_change(group, old, new) for group in sorted({*old, *new}) if not group.startswith("hydra/")]
    now = dict(_leaves(cfg))
    settings = [_change(key, saved, now) for key in sorted({*saved, *now}) if key.split(".")[0] not in ABOUT_RESUMING]
    changed = [change for change in settings if change is not None]
    return [*(c for c in options if c is not None and not _is_renamed(c, changed, saved.keys() & now.keys())), *changed]


def _is_renamed(option: Change, changed: Sequence[Change], shared: Collection[str]) -> bool:
    """Whether an option inside of a group has another name and no other setting."""
    node = option.key.replace("/", ".") + "."
    has_node = any(key.startswith(node) for key in shared)
    return "/" in option.key and has_node and not any(f"{change.key}.".startswith(node) for change in changed)


def _change(key: str, old: Mapping[str, object], new: Mapping[str, object]) -> Change | None:
    was, is_now = old.get(key, MISSING_SETTING), new.get(key, MISSING_SETTING)
    return None if was == is_now else Change(key, was, is_now)


def _leaves(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of every setting outside the `hydra` node, interpolations resolved; a list is a value."""
    if isinstance(node, DictConfig):
        for key in node:
            if path or key != "hydra":
                yield from _leaves(node[key], f"{path}.{key}".lstrip("."))
    else:
        yield path, OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def keep_configuration(directory: Path, after: int) -> str | None:
    """Copy the files in `directory/.hydra` to `.hydra/until_000040`, for a run that goes on after iteration 40.

    The path of the copy inside `directory` is returned; None if there are no files.
    """
    folder = directory / FOLDER
    if not folder.is_dir():
        return None
    kept = _unused(folder / f"until_{after:06d}")
    beside = kept.with_name(f".{kept.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for path in folder.glob("*.yaml"):
        shutil.copy2(path, beside)
    os.replace(beside, kept)
    return str(kept.relative_to(directory))


def configuration_texts(cfg: DictConfig, hydra: DictConfig) -> dict[str, str]:
    """The files of a configuration as Hydra would write them, by name. `hydra` is the content of the `hydra` node."""
    hydra = hydra.copy()
    with read_write(hydra), open_dict(hydra):
        hydra.output_subdir = FOLDER
    nodes = {"config": cfg, "hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task}
    return {f"{name}.yaml": OmegaConf.to_yaml(node) for name, node in nodes.items()}


def write_configuration(directory: Path, texts: Mapping[str, str]) -> None:
    """Write the files of a configuration to `directory/.hydra`, each atomically."""
    (directory / FOLDER).mkdir(exist_ok=True)
    for name, text in texts.items():
        replace_text(directory / FOLDER / name, text)


def _unused(path: Path) -> Path:
    """`path`, or with a number behind it if there is one already: a run may be resumed twice after one iteration."""
    names = (path, *(path.with_name(f"{path.name}_{number}") for number in range(2, 10_000)))
    return next(name for name in names if not name.exists())
