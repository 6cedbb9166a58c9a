"""Messages about overrides and composition: what was typed, what is wrong with it, and what to type instead."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import yaml
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from winnow.errors import ConfigError
from winnow.installed import install

SettingValue = float | str | list[object] | dict[str, object] | None

KINDS = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}


IN_EXTRAS = {"hydra/sweeper/optuna": "optuna"}
"""Configurations that come with a package, and the extra of Winnow's installation that brings it."""


def one_line(text: str) -> str:
    """The text with every run of white space, line breaks included, replaced by one space."""
    return " ".join(text.split())


def or_list(words: Iterable[str]) -> str:
    """The words in one phrase: `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def close_matches(word: str, words: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """At most three of the words that are spelt like `word`, the most similar first."""
    return get_close_matches(word, list(words), n=3, cutoff=cutoff)


def similar_keys(key: str, known: Sequence[str]) -> list[str]:
    """The keys that the user may have meant by `key`: optim.lr by `lr`, algo.clip.high by `algo.clip.hihg`."""
    leaf = key.split(".")[-1]
    tails = [other for other in known if other.endswith(f".{key}")]
    near = [other for other in close_matches(key, known, 0.75) if close_matches(leaf, [other.split(".")[-1]])]
    leaves = {other.split(".")[-1]: other for other in reversed(known)}
    return (tails or near[:1] or [leaves[match] for match in close_matches(leaf, leaves, 0.75)[:1]])[:3]


def choose_hint(group: str, choice: str, choices: Sequence[str]) -> str:
    """The choices of a group, beginning with those that are spelt like `choice`."""
    near = close_matches(choice, choices)
    meant = "".join(f"did you mean {group}={name}? " for name in near[:1])
    others = "; another model, of the hub or in a folder, is model=custom model.path=…" if group == "model" else ""
    return f"{meant}choices: {', '.join(dict.fromkeys([*near, *choices]))}{others}"


def did_you_mean(candidates: Sequence[str], otherwise: str) -> str:
    """A question that names the candidates; `otherwise` if there are none."""
    return f"did you mean {or_list(candidates)}?" if candidates else otherwise


def keys_of(cfg: DictConfig, prefix: str = "") -> list[str]:
    """Every dotted key but those that begin with an underscore; an inner node comes before its leaves."""
    keys = []
    for key in cfg:
        path = f"{prefix}{key}"
        keys.append(path)
        node = None if OmegaConf.is_missing(cfg, str(key)) else cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            keys += keys_of(node, f"{path}.")
    return [key for key in keys if not key.split(".")[-1].startswith("_")]


def target_nodes(node: object, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node that has a `_target_`, with its dotted key; outer nodes first."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, str(key)):
                yield from target_nodes(node[key], f"{path}.{key}".lstrip("."))
    elif isinstance(node, ListConfig):
        for i, item in enumerate(node):
            yield from target_nodes(item, f"{path}[{i}]")


def wrong_kind(old: object, new: SettingValue) -> str | None:
    """Why `new` cannot replace `old`, such as "not a number"; None if it can, or if nothing is known about it."""
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
    """OmegaConf's message in words about the value; the first line of the message where none are known."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    match = re.search(r"could not be converted to (\w+)", first)
    if isinstance(error, ValidationError) and match:
        return f"not {KINDS.get(match[1], match[1])}"
    if "is not Optional" in first:
        return "needs a value"
    if first.endswith("is not in struct"):
        return "has no value, and a run needs one; leave out what removes it (~)"
    return first


def composition_error(error: Exception) -> str:
    """The message of Hydra, OmegaConf or the YAML reader on one line, without Hydra's advice on + and search paths."""
    match error:
        case ConfigError():
            return str(error)
        case yaml.MarkedYAMLError(problem_mark=mark) if mark is not None:
            return f"{mark.name}, line {mark.line + 1}: {error.problem}"
        # `--help GROUP` puts the name of the group into a key of Hydra's, which says nothing to the user.
        case OmegaConfBaseException(full_key=key) if key and not key.startswith("hydra.help"):
            return f"{key}: {omegaconf_error(error)}"
        case OmegaConfBaseException():
            return omegaconf_error(error)
        case MissingConfigException(missing_cfg_file=str(missing)) if missing in IN_EXTRAS:
            return f"{'='.join(missing.rsplit('/', 1))}: not installed; {install(IN_EXTRAS[missing])}"
        case MissingConfigException(missing_cfg_file=str(missing), options=options):
            group, _, choice = missing.rpartition("/")
            return f"{missing}: no such configuration; {choose_hint(group, choice, list(options or []))}"
    return _hydra_error(str(error), error.__cause__)


IN_FILE = re.compile(r"In '(?P<file>.+)': \w+ raised while composing config:\n(?P<what>.*)\n +full_key: ?(?P<key>.*)")
BUILDING = re.compile(r"Error in call to target '(?P<what>.+)':\n(?P<why>.*)\nfull_key: (?P<key>.*)")
NO_SUCH_AXIS = re.compile(
    r"In '(?P<file>.+)': Could not override '(?P<group>algo/\w+)'\. No match in the defaults list"
)


def _hydra_error(text: str, cause: BaseException | None) -> str:
    if match := IN_FILE.match(text):
        return f"{match['file']}.yaml{', ' * bool(match['key'])}{match['key']}: {match['what']}"
    if match := NO_SUCH_AXIS.match(text):
        file = match["file"].replace("/", "=", 1)
        return f"{file}: sets {match['group']}, which the algo that was typed does not have; leave that algo out"
    if match := BUILDING.match(text):
        return f"{match['key']}: {match['why']}"
    hydras = one_line(re.split(r"\nTo append|\nConfig search path|\nSearch path|\n +full_key", text)[0])
    omegaconfs = omegaconf_error(cause) if isinstance(cause, OmegaConfBaseException) else ""
    # "Error merging override" names only the override, which the caller puts before the message anyway.
    return omegaconfs if hydras.startswith("Error merging override") else f"{hydras} {omegaconfs}".strip()
