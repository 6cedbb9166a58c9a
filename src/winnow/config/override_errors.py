"""How an error of composition reads: what was typed, what is wrong with it, what to type instead."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import yaml
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from winnow.errors import ConfigError

SettingValue = float | str | list[object] | dict[str, object] | None

KINDS = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}


def one_line(text: str) -> str:
    return " ".join(text.split())


def or_list(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def close_matches(word: str, words: Iterable[str], cutoff: float = 0.6) -> list[str]:
    return get_close_matches(word, list(words), n=3, cutoff=cutoff)


def nearest_first(word: str, words: Sequence[str]) -> list[str]:
    near = close_matches(word, words)
    return near + [other for other in words if other not in near]


def similar_keys(key: str, known: Sequence[str]) -> list[str]:
    """The keys that someone who typed `key` may have meant: `lr` is optim.lr, `algo.clip.hihg` algo.clip.high."""
    leaf = key.split(".")[-1]
    tails = [other for other in known if other.endswith(f".{key}")]
    near = [other for other in close_matches(key, known, 0.75) if close_matches(leaf, [other.split(".")[-1]])]
    leaves = {other.split(".")[-1]: other for other in reversed(known)}
    return (tails or near[:1] or [leaves[match] for match in close_matches(leaf, leaves, 0.75)[:1]])[:3]


def choose_hint(group: str, choice: str, choices: Sequence[str]) -> str:
    """The choices of a group, those like `choice` first."""
    options = nearest_first(choice, choices)
    meant = "".join(f"did you mean {group}={near}? " for near in close_matches(choice, options[:1]))
    return f"{meant}choices: {', '.join(options)}"


def did_you_mean(candidates: Sequence[str], otherwise: str) -> str:
    return f"did you mean {or_list(candidates)}?" if candidates else otherwise


def keys_of(cfg: DictConfig, prefix: str = "") -> list[str]:
    """Every dotted key, inner nodes before their leaves."""
    found = []
    for key in cfg:
        path = f"{prefix}{key}"
        found.append(path)
        node = None if OmegaConf.is_missing(cfg, str(key)) else cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            found += keys_of(node, f"{path}.")
    return [key for key in found if not key.split(".")[-1].startswith("_")]


def wrong_kind(old: object, new: SettingValue) -> str | None:
    """What `new` is not, judged by the value it would replace; None where nothing can be said."""
    if new is None or (isinstance(new, str) and "${" in new):
        return None
    if isinstance(old, DictConfig):
        return None if isinstance(new, dict) else "a single value where there is a group of settings"
    if isinstance(old, ListConfig):
        return None if isinstance(new, list) else "not a list"
    if isinstance(old, bool):
        return None if isinstance(new, bool) else "not true or false"
    if isinstance(old, int | float):
        return None if isinstance(new, int | float) and not isinstance(new, bool) else "not a number"
    return "not a single value" if isinstance(old, str) and isinstance(new, list | dict) else None


def omegaconf_error(error: OmegaConfBaseException) -> str:
    """The first line of OmegaConf's message, in words about the value."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    match = re.search(r"could not be converted to (\w+)", first)
    if isinstance(error, ValidationError) and match:
        return f"not {KINDS.get(match[1], match[1])}"
    if "is not Optional" in first:
        return "needs a value"
    return first


def composition_error(error: Exception) -> str:
    """What Hydra, OmegaConf or the YAML reader says, on one line and without its advice on append and search paths."""
    match error:
        case ConfigError():
            return str(error)
        case yaml.MarkedYAMLError(problem_mark=mark) if mark is not None:
            return f"{mark.name}, line {mark.line + 1}: {error.problem}"
        case OmegaConfBaseException(full_key=key) if key:
            return f"{key}: {omegaconf_error(error)}"
        case OmegaConfBaseException():
            return omegaconf_error(error)
        case MissingConfigException(missing_cfg_file=str(missing), options=options):
            group, _, choice = missing.rpartition("/")
            return f"{missing}: no such configuration; {choose_hint(group, choice, list(options or []))}"
    return _hydra_error(str(error), error.__cause__)


IN_FILE = re.compile(r"In '(?P<file>.+)': \w+ raised while composing config:\n(?P<what>.*)\n +full_key: (?P<key>.*)")
BUILDING = re.compile(r"Error in call to target '(?P<what>.+)':\n(?P<why>.*)\nfull_key: (?P<key>.*)")


def _hydra_error(text: str, cause: BaseException | None) -> str:
    if found := IN_FILE.match(text):
        return f"{found['file']}.yaml, {found['key']}: {found['what']}"
    if found := BUILDING.match(text):
        return f"{found['key']}: {found['why']}"
    own = one_line(re.split(r"\nTo append|\nConfig search path|\nSearch path|\n +full_key", text)[0])
    theirs = omegaconf_error(cause) if isinstance(cause, OmegaConfBaseException) else ""
    return theirs if own.startswith("Error merging override") else " ".join(filter(None, (own, theirs)))
