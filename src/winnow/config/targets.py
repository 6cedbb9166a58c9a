"""Classes and functions that a configuration names by `_target_`: which may be named, and with what settings."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import ModuleType

from hydra._internal.utils import _locate
from omegaconf import DictConfig, OmegaConf

from winnow import signals
from winnow.config.mixture_parts import dataset_node
from winnow.config.override_errors import close_matches, did_you_mean, one_line, target_nodes
from winnow.config.watched_import import ending_in_words, watched_import
from winnow.errors import ConfigError

PACKAGE = "winnow"
DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
PLAIN_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


COMPLETED_LATER = ("engine", "reward")
"""Sections whose objects and functions get further arguments later: when a run is assembled, or in each call."""


def check_plugins(plugins: Sequence[object]) -> None:
    """Check that every package that `plugins` names is installed.

    Raises:
        ConfigError: the first that is not.
    """
    for plugin in plugins:
        package = str(plugin).split(".")[0]
        if not PLAIN_NAME.fullmatch(str(plugin)) or package == "__main__" or find_spec(package) is None:
            raise ConfigError(
                f"plugins: no package {plugin} can be imported; install it, or put it beside the --config-dir"
            )


def check_nodes(cfg: DictConfig, section: str) -> None:
    """Check every class and function that is named below the key `section`, as `check_target` checks one.

    Raises:
        ConfigError: the first that cannot be built.
    """
    trusted = list(cfg.plugins)
    found = dataset_node(cfg) if section == "dataset" else OmegaConf.select(cfg, section)
    for path, node in target_nodes(found, section):
        target = check_target(path, node, trusted)
        if section not in COMPLETED_LATER and not node.get("_partial_"):
            _require_settings(path, node, target)
        if path.endswith(".rule") and "function" in node:
            check_function(f"{path}.function", str(node.function), trusted)


def check_target(
    path: str, node: DictConfig, trusted: Sequence[str], owned: Sequence[str] = (PACKAGE,), where: str | None = None
) -> object:
    """The class or function of a node, which has to accept the node's settings.

    It is imported only from packages that are `owned`, and then has to be defined in one of them, or that are
    `trusted`. A setting that it does not know is refused here, because a node with `_partial_: true` would hide it
    until its first call, after a whole rollout. `where` takes the place of `path._target_=…` in messages.

    Raises:
        ConfigError: the package is neither, there is no such name, or it does not take one of the settings.
    """
    target = node["_target_"]
    if not isinstance(target, str) or not DOTTED_NAME.fullmatch(target):
        raise ConfigError(f"{path}._target_={target}: not the dotted name of a class or function")
    package, where = target.split(".")[0], where or f"{path}._target_={target}"
    refusal = f"{where}: not part of winnow"
    if package not in (*owned, *trusted):
        raise ConfigError(f"{refusal}; type plugins=[{package}] if you trust it")
    try:  # not hydra.utils.get_object, which writes the error to stderr as well
        with watched_import(where, limited=package not in owned):
            found = _locate(target)
        known = inspect.signature(found).parameters
    except BaseException as error:
        if signals.is_behind(error):
            raise
        if not isinstance(error, Exception):  # the module itself ends the program
            raise ConfigError(f"{where}: {ending_in_words(error)}") from error
        lacking = _lacking_package(error)
        why = f"{lacking} is not installed; type pip install {lacking}" if lacking else None
        raise ConfigError(f"{where}: {why or _part_lacking(target) or one_line(str(error))}") from error
    # A module of ours has the modules that it imports as attributes: `winnow.files.os.system`.
    home = _package_of(found)
    if package in owned and home not in (*owned, *trusted):
        raise ConfigError(f"{refusal}, but of {home}; type plugins=[{home}] if you trust it")
    accepts_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    for key in node:
        if str(key) not in known and not str(key).startswith("_") and not accepts_any:
            near = [f"{path}.{name}" for name in close_matches(str(key), known)[:1]]
            hint = did_you_mean(near, f"known: {', '.join(known)}")
            # A file that sets it for one choice leaves it where another choice is typed.
            left = f"; if a file sets it for another choice, type '~{path}.{key}'" if path.startswith("algo.") else ""
            raise ConfigError(f"{path}.{key}: no such setting of {target}; {hint}{left}")
    return found


def _lacking_package(error: BaseException | None) -> str | None:
    """The package whose absence the error, or one that caused it, reports; None if it reports something else."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name and find_spec(error.name.split(".")[0]) is None:
            return error.name.split(".")[0]
        error = error.__cause__
    return None


def _require_settings(path: str, node: DictConfig, found: object) -> None:
    """Refuse a node from which a setting was removed that its class cannot do without."""
    if not callable(found):
        return
    for name, parameter in inspect.signature(found).parameters.items():
        is_named = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if is_named and parameter.default is inspect.Parameter.empty and name not in node:
            if path.startswith("algo.") and _is_of_axis(path, name):
                raise ConfigError(
                    f"{path}: {node['_target_']} is called without `{name}`, which it gets in each call; type "
                    f"+{path}._partial_=true, or add `_partial_: true` beside its `_target_`"
                )
            raise ConfigError(
                f"{path}: has no `{name}`, which {node['_target_']} needs; leave out what removes it (~{path}.{name}), "
                f"or type +{path}.{name}=VALUE"
            )


def _is_of_axis(path: str, argument: str) -> bool:
    """Whether a node is a rule of an algorithm's axis that offers the argument."""
    from winnow.rule import AXES  # imports torch, which takes seconds

    axis = AXES.get(path.removeprefix("algo.").split(".")[0])
    return axis is not None and argument in (*axis.by_position, *axis.by_name)


def check_function(key: str, name: str, trusted: Sequence[str]) -> None:
    """Check a function that the setting `key` names as module:name, as `check_target` checks one.

    Raises:
        ConfigError: its package is not trusted, or there is no such function.
    """
    package = name.split(".")[0].split(":")[0]
    if package not in (PACKAGE, *trusted):
        raise ConfigError(f"{key}={name}: not part of winnow; type plugins=[{package}] if you trust it")
    try:
        with watched_import(f"{key}={name}", limited=package != PACKAGE):
            found = _locate(name.replace(":", "."))
    except BaseException as error:
        if signals.is_behind(error):
            raise
        text = name_lacking(name) or one_line(str(error)) if isinstance(error, Exception) else ending_in_words(error)
        raise ConfigError(f"{key}={name}: {text}") from error
    if not callable(found):
        raise ConfigError(f"{key}={name}: no function; type module:name")


def _part_lacking(target: str) -> str | None:
    """`a.b has no c; did you mean a.b.d?` for the dotted name a.b.c; None if all its parts are there."""
    parts = target.split(".")
    for end in range(len(parts) - 1, 0, -1):
        home, rest = ".".join(parts[:end]), parts[end:]
        if home in sys.modules:
            # A folder of that name is a module, which was found and could not be imported.
            return None if _holds_module(home, rest[0]) else name_lacking(f"{home}:{rest[0]}", ".")
    return None


def _holds_module(home: str, name: str) -> bool:
    """Whether an imported module is a package that has a module of this name."""
    if "__path__" not in vars(sys.modules[home]):  # not by getattr, which a module may answer by code of its own
        return False
    try:
        return find_spec(f"{home}.{name}") is not None
    except (ImportError, ValueError, AttributeError):
        return False


def name_lacking(name: str, joint: str = ":") -> str | None:
    """`a has no b; did you mean a:c?` for the name a:b of a module that has been imported; None if that is not why.

    `joint` stands between a and c.
    """
    home, _, attribute = name.partition(":")
    module = sys.modules.get(home)
    if module is None or attribute in vars(module) or "__getattr__" in vars(module):
        return None
    found = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    own = [key for key, value in found.items() if str(getattr(value, "__module__", "")).startswith(home)]
    known = own or list(found)
    near = [f"{home}{joint}{close}" for close in close_matches(attribute, known)[:1]]
    has = ", ".join(known)
    return f"{home} has no {attribute}; {did_you_mean(near, f'it has {has}')}"


def _package_of(found: Callable[..., object] | ModuleType | type) -> str:
    module = inspect.getmodule(found)
    return module.__name__.split(".")[0] if module is not None else "builtins"
