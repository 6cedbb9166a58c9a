"""Settings of Hydra's own (the `hydra` node), which can import classes and write files as much as Winnow's can.

A class that one of them names, or a place where Hydra writes, is refused before Hydra reads it.
"""

import codecs
import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra._internal.logging_config import HydraDictConfigurator
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from winnow.config.override_errors import composition_error, one_line, or_list, target_nodes
from winnow.config.saved_runs import FOLDER
from winnow.config.setting_rules import RULES
from winnow.config.targets import check_plugins, check_target
from winnow.errors import ConfigError

OWNED = ("winnow", "hydra", "hydra_plugins", "optuna")
"""Packages whose launchers, sweepers and callbacks may be named: Winnow's, Hydra's, those installed as plug-ins, and
Optuna, whose samplers its sweeper names."""
HANDLERS = (
    "logging.StreamHandler",
    "logging.NullHandler",
    "logging.FileHandler",
    "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler",
)
"""Handlers of Python's `logging` that write to the terminal or to a file, not to a network or a mail server."""
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
MOST_PROCESSES = 1024
MOST_TRIALS = 10**6
DIRECTIONS = ("maximize", "minimize")
TEXTS = ("help", "hydra_help")
SETTINGS = ("job", "run", "sweep", "launcher", "sweeper")
"""Sections whose every setting has a value once a job is started."""
LONGEST_NAME, LONGEST_PATH = 255, 4000
"""Bytes of the longest name of a file, and of the longest path, of the usual file systems."""


def check_hydra(cfg: DictConfig) -> None:
    """Check the `hydra` node of a composed configuration: classes, search path, directories and logging.

    Raises:
        ConfigError: one of them is not to be trusted, or cannot be used; the message says what to type instead.
    """
    trusted = [str(plugin) for plugin in cfg.get("plugins") or []]
    check_plugins(trusted)
    if problem := RULES["task_name"].problem(cfg.get("task_name")):  # before the directory that it is part of
        raise ConfigError(f"task_name={cfg.task_name}: {problem}")
    numbered = _with_numbers(cfg)
    for key in numbered.hydra:
        if key not in TEXTS:  # of help, which are filled in when they are shown
            _plain(numbered, f"hydra.{key}")
    for section in (numbered.hydra[name] for name in SETTINGS):
        for key in sorted(OmegaConf.missing_keys(section)) if isinstance(section, DictConfig) else ():
            raise ConfigError(f"{key}=???: has no value; leave it out")
    check_search_path(cfg.hydra.searchpath, trusted)
    if isinstance(cfg.hydra.sweeper, DictConfig):  # before the class of a sampler, whose import may take seconds
        _check_search(cfg.hydra.sweeper)
    for name, kind in {"launcher": Launcher, "sweeper": Sweeper}.items():
        _check_class(f"hydra.{name}", cfg.hydra[name], kind, trusted)
    for key in ("jobs", "threads"):
        value = cfg.hydra.launcher.get(key)
        if isinstance(value, int) and not 1 <= value <= MOST_PROCESSES:
            raise ConfigError(f"hydra.launcher.{key}={value}: must be 1 or more, and at most {MOST_PROCESSES:,}")
    if not isinstance(merge := cfg.hydra.launcher.get("merge", True), bool):
        raise ConfigError(f"hydra.launcher.merge={merge}: must be true or false")
    for name, callback in (cfg.hydra.callbacks or {}).items():
        _check_class(f"hydra.callbacks.{name}", callback, Callback, trusted)
    directories = _directories(numbered)
    for name in ("hydra_logging", "job_logging"):
        _check_logging(f"hydra.{name}", _plain(numbered, f"hydra.{name}"), directories, trusted)
    _check_rest(numbered)


def hydra_mode(cfg: DictConfig) -> RunMode | None:
    """The mode that the configuration names: a run or a sweep; None where it leaves that to the command.

    Raises:
        ConfigError: it is `???`.
    """
    if OmegaConf.is_missing(cfg.hydra, "mode"):
        raise ConfigError("hydra.mode=???: has no value; leave it out")
    return cfg.hydra.mode


def _check_search(sweeper: DictConfig) -> None:
    """Check the settings of a search, whose sweeper would find them wrong with an error of its own."""
    for key in ("n_trials", "n_jobs"):
        value = sweeper.get(key, 1)
        if type(value) is not int or not 1 <= value <= MOST_TRIALS:
            raise ConfigError(
                f"hydra.sweeper.{key}={value}: must be a whole number, 1 or more; type hydra.sweeper.{key}=8"
            )
    if (storage := sweeper.get("storage")) is not None and (newer := _newer_sqlalchemy()):
        raise ConfigError(
            f"hydra.sweeper.storage={storage}: this Optuna cannot keep a study with SQLAlchemy {newer}; leave it out "
            "(a search that is started again takes the runs that are there), or type pip install 'sqlalchemy<2'"
        )
    direction = sweeper.get("direction", DIRECTIONS[0])
    if str(getattr(direction, "name", direction)) not in DIRECTIONS:
        raise ConfigError(f"hydra.sweeper.direction={direction}: type hydra.sweeper.direction={or_list(DIRECTIONS)}")


def _newer_sqlalchemy() -> str | None:
    """The version of SQLAlchemy if it is one under which Optuna 2, the sweeper's, fails; None if it is not."""
    try:
        optuna, sqlalchemy = (metadata.version(package) for package in ("optuna", "sqlalchemy"))
    except metadata.PackageNotFoundError:
        return None
    return sqlalchemy if int(optuna.split(".")[0]) < 3 and int(sqlalchemy.split(".")[0]) >= 2 else None


def _check_class(path: str, node: object, kind: type, trusted: Sequence[str]) -> None:
    if not isinstance(node, DictConfig) or "_target_" not in node:
        word = kind.__name__.lower()
        raise ConfigError(f"{path}: has no class (`_target_`) of a {word}; leave it out, or type hydra/{word}=NAME")
    for inner, inner_node in target_nodes(node, path):
        found = check_target(inner, inner_node, trusted, OWNED)
        if inner == path and not (isinstance(found, type) and issubclass(found, kind)):
            raise ConfigError(f"{path}._target_={node['_target_']}: no {kind.__name__} of Hydra; leave it out")


def check_search_path(entries: object, trusted: Sequence[str]) -> None:
    """Check `hydra.searchpath`, of whose packages Hydra imports every one.

    Raises:
        ConfigError: there is no such directory, or the package is not to be trusted.
    """
    for entry in entries if isinstance(entries, Sequence) else []:
        scheme, _, place = str(entry).partition("://")
        line = f"hydra.searchpath=[{entry}]"
        if scheme == "file":
            if not place or not _is_directory(place):
                raise ConfigError(f"{line}: no such directory; type hydra.searchpath=[file://DIR]")
        elif scheme == "pkg" and place:
            package = place.split(".")[0].split("/")[0]
            if package not in (*OWNED, *trusted):
                raise ConfigError(f"{line}: imports {package}; type plugins=[{package}] if you trust it")
            check_plugins([package])
        else:
            raise ConfigError(f"{line}: not a place of YAML files; type hydra.searchpath=[file://DIR]")


def _is_directory(place: str) -> bool:
    try:
        return Path(place).is_dir()
    except (OSError, ValueError):
        return False


def _with_numbers(cfg: DictConfig) -> DictConfig:
    """A copy in which all that Hydra adds when it starts a job has a value."""
    part = copy.deepcopy(cfg)
    HydraConfig.instance().set_config(part)
    with read_write(part.hydra.runtime), read_write(part.hydra.job):
        for key, value in {"num": 0, "id": "0", "override_dirname": "overrides"}.items():
            if OmegaConf.is_missing(part.hydra.job, key):
                part.hydra.job[key] = value
        part.hydra.runtime.output_dir = str(Path(_path(part, "hydra.run.dir")).absolute())
    return part


def _directories(cfg: DictConfig) -> tuple[Path, ...]:
    """The directories in which the run or sweep may write."""
    top, below = _path(cfg, "hydra.sweep.dir"), _path(cfg, "hydra.sweep.subdir")
    if not _is_inside(Path(top, below), (Path(top),)):
        raise ConfigError(f"hydra.sweep.subdir={below}: outside the sweep's directory; type a name without /")
    return Path(_path(cfg, "hydra.run.dir")), Path(top)


def _path(cfg: DictConfig, key: str) -> str:
    value = _plain(cfg, key)
    text = str(value) if isinstance(value, str | int | float) else ""
    problem = (
        "not the name of a directory"
        if not text.strip() or "\0" in text
        else "longer than file systems allow"
        if _is_too_long(text)
        else None
    )
    if problem is not None:
        raise ConfigError(f"{key}={text}: {problem}; type {key}=DIR")
    return text


def _is_too_long(path: str) -> bool:
    lengths = [len(part.encode("utf-8", "surrogateescape")) for part in path.split("/")]
    return max(lengths) > LONGEST_NAME or sum(lengths) + len(lengths) > LONGEST_PATH


def _is_inside(path: Path, directories: Sequence[Path]) -> bool:
    place = path.absolute().resolve()
    return any(place.is_relative_to(directory.absolute().resolve()) for directory in directories)


def _plain(cfg: DictConfig, key: str) -> Any:
    """The value of a key with its interpolations resolved, containers as plain ones."""
    try:
        value = OmegaConf.select(cfg, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {composition_error(error).removeprefix(f'{key}: ')}") from error


def _check_logging(path: str, node: object, directories: Sequence[Path], trusted: Sequence[str]) -> None:
    if node is None:
        return
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}={node}: no configuration of logging; leave it out, or type {path}=null")
    for name, handler in _named(node, path, "handlers"):
        _check_handler(f"{path}.handlers.{name}", handler, directories, trusted)
    for key, value in _leaves(node, path):
        _check_name(key, value, trusted)
    _try_logging(path, node)


def _named(node: Mapping[Any, Any], path: str, section: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    entries = node.get(section) or {}
    if not isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise ConfigError(f"{path}.{section}: not a group of {section}, each with its settings; leave it out")
    yield from ((str(name), entry) for name, entry in entries.items())


def _check_handler(path: str, handler: Mapping[Any, Any], directories: Sequence[Path], trusted: Sequence[str]) -> None:
    name = str(handler.get("class", handler.get("()", "")))
    if name not in HANDLERS and name.split(".")[0] not in trusted:
        package = name.split(".")[0] or "PACKAGE"
        advice = "" if package == "logging" else f"; type plugins=[{package}] if you trust it"
        raise ConfigError(f"{path}.class={name}: not one of {or_list(HANDLERS)}{advice}")
    if "filename" not in handler:
        return
    if handler.get("mode", "a") not in ("a", "w"):
        raise ConfigError(f"{path}.mode={handler['mode']}: type a, to add to the file, or w, to write it anew")
    try:
        codecs.lookup(str(handler.get("encoding", "utf-8")))
    except LookupError as error:
        raise ConfigError(f"{path}.encoding={handler['encoding']}: {error}; type utf-8") from error
    file = handler["filename"]
    if not isinstance(file, str) or not file.strip() or "\0" in file or _is_too_long(file):
        raise ConfigError(
            f"{path}.filename={file}: not the name of a file; type ${{hydra.runtime.output_dir}}/NAME.log"
        )
    if not _is_inside(Path(file), directories):
        raise ConfigError(
            f"{path}.filename={file}: outside the run's directory; type ${{hydra.runtime.output_dir}}/NAME.log"
        )


def _leaves(node: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _leaves(value, f"{path}[{i}]")
    else:
        yield path, node


def _check_name(key: str, value: object, trusted: Sequence[str]) -> None:
    """Check a value that `logging` may import: one of `()` or `class`, or one that begins with `ext://`."""
    text = str(value)
    if text.startswith("ext://"):
        if text not in STREAMS and text.removeprefix("ext://").split(".")[0] not in trusted:
            raise ConfigError(f"{key}={text}: not one of {or_list(STREAMS)}")
    elif key.endswith((".()", ".class", ".factory")) and text.split(".")[0] not in ("logging", *trusted):
        raise ConfigError(
            f"{key}={text}: not part of Python's logging; type plugins=[{text.split('.')[0]}] if you trust it"
        )


def _try_logging(path: str, node: Mapping[Any, Any]) -> None:
    """Build what the configuration describes, without installing it and without opening a file."""
    if "root" not in node:
        raise ConfigError(f"{path}: has no `root`, the logger of all; type +{path}.root=null for no logging")
    trial: dict[str, Any] = copy.deepcopy(dict(node)) | {"loggers": node.get("loggers") or {}}
    for section in ("formatters", "filters", "handlers"):
        trial[section] = dict(_named(trial, path, section))
    for handler in trial["handlers"].values():
        if "filename" in handler:
            handler["delay"] = True
    builder = HydraDictConfigurator(trial)
    steps = {
        "formatters": builder.configure_formatter,
        "filters": builder.configure_filter,
        "handlers": builder.configure_handler,
    }
    key = path
    try:
        for section, build in steps.items():
            for name, entry in trial[section].items():
                key = f"{path}.{section}.{name}"
                trial[section][name] = build(entry)
        for name, logger in [*_named(trial, path, "loggers"), ("root", trial["root"] or {})]:
            key = f"{path}.{name}"
            logging.Handler(logger.get("level", 0))
            for handler in logger.get("handlers", ()):
                trial["handlers"][handler]
    except (HydraException, ValueError, TypeError, KeyError, AttributeError, LookupError, OSError) as error:
        said = one_line(str(error.__cause__ or error))
        raise ConfigError(f"{key}: Python's logging refuses it ({type(error).__name__}: {said})") from error
    if node.get("version") != 1:
        raise ConfigError(f"{path}.version={node.get('version')}: type {path}.version=1")


def _check_rest(cfg: DictConfig) -> None:
    folder = _plain(cfg, "hydra.output_subdir")
    if folder not in (FOLDER, None):
        raise ConfigError(f"hydra.output_subdir={folder}: a run is read from {FOLDER}; leave it out")
    verbose = _plain(cfg, "hydra.verbose")
    names = verbose if isinstance(verbose, list) else [verbose]
    if not isinstance(verbose, bool) and not all(isinstance(name, str) for name in names):
        raise ConfigError(f"hydra.verbose={verbose}: type true, false, or the name of a logger")
    for name, value in (_plain(cfg, "hydra.job.env_set") or {}).items():
        if not name or "=" in name or "\0" in f"{name}{value}":
            raise ConfigError(f"hydra.job.env_set.{name}={value}: not a name and value of an environment variable")
