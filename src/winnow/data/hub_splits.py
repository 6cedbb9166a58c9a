"""Files of a hub dataset's subset and split, found as the hub's own viewer finds them.

Where the card at the repository's root (`README.md`) lists configurations, these are the subsets, with the files of
each split. Where it does not, a subset is a folder, and a file belongs to the split that its path names; a file that
names none belongs to the training split.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import yaml

from winnow.errors import ConfigError
from winnow.source_files import is_data_file

CARD = "README.md"
TRAIN = "train"
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in a path that name a split, set off by other characters than letters."""


@dataclass(frozen=True)
class Choice:
    """The files of a dataset that are read: those of a subset and split, or those that the glob pattern `files` names.

    None stands for the only subset or the default one, and for the training split or the only one.
    """

    subset: str | None = None
    split: str | None = None
    files: str | None = None


Splits = Mapping[str, Sequence[str]]
"""Files by split."""


def chosen_files(repository: str, names: Sequence[str], card: str, choice: Choice) -> list[str]:
    """Those of a repository's file `names` that are chosen, in order; `card` is the text of its README.md.

    Raises:
        ConfigError: there are none; the message names what there is.
    """
    names = sorted(filter(is_data_file, names))
    where = f"dataset.repository={repository}"
    if choice.files is not None:
        found = [name for name in names if _matches(name, choice.files)]
        if not found:
            raise ConfigError(f"{where}: no data file matches {choice.files!r}; {_first(names)}")
        return found
    subsets = _subsets(names, card)
    subset = _one_of(subsets, choice.subset, "dataset.subset", where, "default")
    splits = subsets[subset]
    split = _one_of(splits, choice.split, "dataset.split", where, TRAIN)
    if not (files := splits[split]):
        raise ConfigError(f"{where}: no data file for subset {subset} and split {split}; {_first(names)}")
    return sorted(files)


def _one_of(known: Mapping[str, object], asked: str | None, setting: str, where: str, default: str) -> str:
    """The one of the `known` names that is `asked` for; without that, the default or the only one."""
    if asked is None and (default in known or len(known) == 1):
        return default if default in known else next(iter(known))
    listed = ", ".join(known) or "none, as no file of it is JSONL, JSON, CSV or Parquet"
    kind = setting.split(".")[1]
    if asked is None:
        example = next(iter(known), "NAME")
        raise ConfigError(f"{where}: has the {kind}s {listed}; type one, such as {setting}={example}")
    if asked not in known:
        near = "".join(f"did you mean {name}? " for name in get_close_matches(asked, known, n=1))
        raise ConfigError(f"{where}: no {kind} {asked}; {near}there are {listed}")
    return asked


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"it has {shown or 'no JSONL, JSON, CSV or Parquet file'}"


def _subsets(names: Sequence[str], card: str) -> dict[str, Splits]:
    """The splits of every subset. The default subset is called `default` whatever its name, as well as by its name."""
    configurations = list(_configurations(card))
    if configurations:
        found = {str(c.get("config_name", "default")): _listed(names, c) for c in configurations}
        default = next((str(c["config_name"]) for c in configurations if c.get("default") and "config_name" in c), None)
        return {"default": found[default], **found} if default is not None else found
    above = {part for name in names for part in name.split("/")[:-1]}
    folders = sorted(part for part in above if part != "data" and _split_in(part) is None)
    by_folder = {folder: _inferred([n for n in names if folder in n.split("/")[:-1]]) for folder in folders}
    outside = [name for name in names if not set(name.split("/")[:-1]) & set(folders)]
    return {"default": _inferred(outside), **by_folder} if outside or not folders else by_folder


def _configurations(card: str) -> Iterator[dict[str, object]]:
    """The entries of `configs` in the YAML at the top of a card; a card without, or with a broken one, has none."""
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", card.replace("\r\n", "\n"), re.DOTALL)
    try:
        metadata = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return
    entries = metadata.get("configs") if isinstance(metadata, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and ("data_files" in entry or "data_dir" in entry):
            yield entry


def _listed(names: Sequence[str], configuration: Mapping[str, object]) -> Splits:
    """The splits of a configuration: `data_files` is a path, a list of paths, or a list of splits with paths."""
    folder = str(configuration.get("data_dir") or "").strip("/")
    inside = [name for name in names if not folder or name.startswith(f"{folder}/")]
    data_files = configuration.get("data_files")
    if data_files is None:
        return _inferred(inside)
    entries = data_files if isinstance(data_files, list) else [data_files]
    splits: dict[str, list[str]] = {}
    for entry in entries:
        split, paths = (entry.get("split", TRAIN), entry.get("path")) if isinstance(entry, dict) else (TRAIN, entry)
        for path in paths if isinstance(paths, list) else [paths]:
            pattern = f"{folder}/{path}" if folder else str(path)
            splits.setdefault(str(split), []).extend(name for name in inside if _matches(name, pattern))
    return {split: list(dict.fromkeys(files)) for split, files in splits.items()}


def _inferred(names: Sequence[str]) -> Splits:
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(_split_in(name) or TRAIN, []).append(name)
    return splits


def _split_in(path: str) -> str | None:
    """The split that a path names, in its last part if that names one."""
    for part in reversed(path.split("/")):
        words = re.split(r"[^a-z]+", part.lower())
        found = next((split for split, names in SPLITS.items() if any(word in names for word in words)), None)
        if found is not None:
            return found
    return None


def _matches(name: str, pattern: str) -> bool:
    """Whether a path is one that a glob pattern names (`**` stands for any folders), or lies in a folder that it is."""
    parts, patterns = name.split("/"), pattern.removeprefix("./").strip("/").split("/")
    return _match(parts, patterns) or any(_match(parts[:n], patterns) for n in range(1, len(parts)))


def _match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match(parts[n:], patterns[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])
