"""Config groups and their choices, as Hydra's loader finds them, and the text of `--help`, which lists them.

Hydra prints the templates in `conf/hydra/help`. Their interpolations `${winnow.groups:[…]}`, `${winnow.keys:[…]}` and
`${winnow.choices:…}` call functions of this module.
"""

import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from winnow.config.other_names import algorithm_meant_by
from winnow.config.override_errors import IN_EXTRAS, choose_hint, close_matches, did_you_mean
from winnow.config.setting_rules import SEVERAL
from winnow.errors import ConfigError
from winnow.installed import install

RENAMED_CHOICES = {"algo/clip=outside": "algo/clip=ratio_min"}
"""Choices of earlier versions of Winnow, with the words to type instead."""
RENAMED_KEYS = {
    f"logger.{key}": f"logger.wandb.{key}" for key in ("project", "entity", "mode", "group", "name", "tags")
}
"""Keys of earlier versions of Winnow, with the present ones. A resumed run's own overrides are read with them."""
REMOVED_GROUPS = {
    "model/settings": "conf/model/NAME.yaml states what a model brings; type model=NAME",
    "dataset/evaluation": "conf/dataset/NAME.yaml states the evaluation sets; type eval.sets=[NAME]",
    "algo/family": "conf/algo/NAME.yaml names its class; type algo=NAME",
}
"""Groups of earlier versions of Winnow, with where their settings stand now and the words to type instead."""
HIDDEN_GROUPS = ("schema",)
"""Groups that no user chooses from: a program's own configuration does."""
SHARED_PARTS = ("/settings", "/sweep")
"""Ends of the names of files that the experiments of a folder build on. They are not offered as choices."""


class Groups:
    """The config groups that the loader finds, such as `algo` and `algo/clip`; `config_name` is the program's file."""

    def __init__(self, loader: ConfigLoaderImpl, config_name: str) -> None:
        self.loader, self.config_name = loader, config_name

    @cached_property
    def defaults(self) -> dict[str, str | None]:
        """The choice from each group without any override."""
        return dict(self.loader.load_configuration(self.config_name, [], RunMode.RUN).hydra.runtime.choices)

    def names(self, parent: str = "") -> list[str]:
        """The groups below `parent` that have choices, at any depth."""
        found = []
        for name in self._nested(parent):
            if name in HIDDEN_GROUPS:
                continue
            path = f"{parent}/{name}".lstrip("/")
            found += [path] * bool(self.options(path)) + self.names(path)
        return found

    def _axes(self, group: str) -> set[str]:
        """The groups inside of this one that its choices name in their defaults lists, such as algo/preference."""
        loaded = (self.loader.repository.load_config(f"{group}/{option}") for option in self.options(group))
        entries = (entry for found in loaded if found is not None for entry in found.defaults_list or ())
        return {f"{group}/{entry.group}" for entry in entries if isinstance(entry, GroupDefault)}

    def options(self, group: str) -> list[str]:
        """The files of the group's own folder."""
        return self.loader.repository.get_group_options(group, ObjectType.CONFIG)

    def choices(self, group: str, nested: Collection[str] | None = None) -> list[str]:
        """The group's choices, also those in folders, such as paper/grpo.

        `nested` names groups whose folders lie inside of this one, such as algo/clip; by default all that are known.
        """
        nested = {key.split("@")[0] for key in self.defaults} | self._axes(group) if nested is None else nested
        folders = [f for f in self._nested(group) if f"{group}/{f}" not in nested]
        found = self.options(group) + [f"{f}/{option}" for f in folders for option in self.options(f"{group}/{f}")]
        return [choice for choice in found if not choice.endswith(SHARED_PARTS)]

    def chosen_by(self, override: Override) -> bool:
        """Whether the override chooses from a group; otherwise it sets a key."""
        return self.loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def check(self, override: Override) -> None:
        """Check an override that chooses from a group.

        Raises:
            ConfigError: the group has no such choice.
        """
        group, value, line = override.key_or_group, override.value(), override.input_line
        if value is None and not override.is_delete():
            raise ConfigError(f"{line}: a group is left out by not naming it, or by ~{group}")
        if override.is_add() and group in self.defaults:
            raise ConfigError(f"{line}: the group exists; type {group}={value}")
        if isinstance(value, list) and group not in SEVERAL:
            raise ConfigError(
                f"{line}: takes one choice; for a sweep over several, type -m {group}={','.join(map(str, value))}"
            )
        chosen = list(map(str, value)) if isinstance(value, list) else []
        if repeated := next((choice for choice in chosen if chosen.count(choice) > 1), None):
            raise ConfigError(f"{line}: {repeated} is named twice; name each once")
        for choice in value if isinstance(value, list) else [value]:
            if (renamed := RENAMED_CHOICES.get(f"{group}={choice}")) is not None:
                raise ConfigError(f"{group}={choice}: has been renamed; type {renamed}")
            if f"{group}/{choice}" in IN_EXTRAS and not self._has(group, choice):
                raise ConfigError(f"{line}: not installed; {install(IN_EXTRAS[f'{group}/{choice}'])}")
            if choice is not None and not self._has(group, choice):
                hint = _meant(group, str(choice)) or self._whole(group, str(choice))
                hint = hint or choose_hint(group, str(choice), self.choices(group))
                raise ConfigError(f"{group}={choice}: no such choice; {hint}")

    def _has(self, group: str, choice: object) -> bool:
        try:
            return self.loader.repository.config_exists(f"{group}/{choice}")
        except OSError:  # a name that is too long for a file is none
            return False

    def _whole(self, group: str, choice: str) -> str | None:
        """The words to type where a choice for a part of an algorithm is the name of a whole one."""
        parent = group.split("/")[0]
        return f"type {parent}={choice}" if parent != group and choice in self.options(parent) else None

    def unused(self, choices: Sequence[Override], message: str) -> str | None:
        """The message on a choice from a nested group that the chosen parent lacks, such as `algo=sft algo/select=all`.

        None if Hydra's `message` says something else.
        """
        for o in choices:
            parent, _, axis = o.key_or_group.rpartition("/")
            if f"Could not override '{o.get_key_element()}'. No match in the defaults list" in message:
                chosen = next((c.input_line for c in reversed(choices) if c.key_or_group == parent), parent)
                advice = f"type {parent}={axis}/{o.value()}" if chosen == parent else "leave it out"
                return f"{o.input_line}: {chosen} has no `{axis}`; {advice}"
        return None

    def holders(self, group: str) -> dict[str, list[str]]:
        """Each setting that some choice of the group has, with the choices that have it.

        The default one comes first, and then those on which most others build.
        """
        found: dict[str, list[str]] = {}
        options = self.options(group)
        bases = Counter(base for option in options for base in self._bases(group, option))
        for option in sorted(options, key=lambda name: (name != self.defaults.get(group), -bases[name])):
            for key in self._settings(group, option):
                found.setdefault(key, []).append(option)
        return found

    def _nested(self, group: str) -> list[str]:
        # Not loader.list_groups, which copies the cache of all files at each call.
        return self.loader.repository.get_group_options(group, ObjectType.GROUP)

    def _bases(self, group: str, option: str) -> list[str]:
        """The choices of the group that a choice builds on."""
        loaded = self.loader.repository.load_config(f"{group}/{option}")
        entries = [] if loaded is None else loaded.defaults_list or []
        return [str(each.path) for each in entries if isinstance(each, ConfigDefault) and not each.is_self()]

    def _settings(self, group: str, option: str) -> set[str]:
        """The keys of the group's node that one of its files sets, alone or through its defaults list."""
        loaded = self.loader.repository.load_config(f"{group}/{option}")
        if loaded is None or not isinstance(loaded.config, DictConfig):
            return set()
        package, home = group.replace("/", "."), loaded.header["package"] or ""
        inside = package if home == "_global_" else package.removeprefix(f"{home}.") if home else ""
        node = OmegaConf.select(loaded.config, inside) if inside else loaded.config
        found = {str(key) for key in node if not str(key).startswith("_")} if isinstance(node, DictConfig) else set()
        for default in loaded.defaults_list or []:
            if isinstance(default, ConfigDefault) and default.path is not None and not default.is_self():
                found |= self._settings(group, default.path)  # a file that it builds on, as llama does on qwen
            elif isinstance(default, GroupDefault) and default.group is not None and not default.override:
                found.add((default.package or default.group).removeprefix(f"{package}."))
        return found


WIDTH = 100
LABEL = 16
"""Columns of a line, and those that its label takes."""


def register_help() -> None:
    """Register the interpolations of the help templates with OmegaConf."""
    for name, text in {"groups": _groups, "keys": _keys, "choices": _choices}.items():
        OmegaConf.register_new_resolver(f"winnow.{name}", text, replace=True)


def template_of(group: str) -> str:
    """The override by which `--help` prints the choices of one group."""
    return f"hydra.help.template='${{winnow.choices:{group}}}'"


def _groups(names: Collection[str], *, _root_: DictConfig) -> str:
    """A paragraph for each group, with a further one for each folder of choices, such as paper/ of `experiment`."""
    groups, chosen = _loaded_groups(_root_), _root_.hydra.runtime.choices
    lines = []
    for name in names:
        folders: dict[str, list[str]] = {}
        for choice in groups.choices(name, nested=None):
            folder, _, word = choice.rpartition("/")
            folders.setdefault(folder, []).append(f"[{word}]" if choice == chosen.get(name) else word)
        lines += [_paragraph(f"  {f}/" if f else name, " ".join(words)) for f, words in folders.items()]
    return _escaped("\n".join(lines))


def _keys(names: Collection[str], *, _root_: DictConfig) -> str:
    found = {name: OmegaConf.select(_root_, name, throw_on_missing=False) for name in names}
    return _escaped("  " + "  ".join(f"{name}={_value(value)}" for name, value in found.items()))


def _value(value: object) -> str:
    return "null" if value is None else str(value).replace(" ", "").replace("'", "")


def _choices(name: str, *, _root_: DictConfig) -> str:
    """A paragraph for each choice of a group: the first comment of its YAML."""
    groups = _loaded_groups(_root_)
    if not groups.choices(name):
        known = [group for group in groups.names() if not group.startswith("hydra")]
        hint = did_you_mean(close_matches(name, known), f"groups: {', '.join(known)}")
        raise InterpolationResolutionError(f"--help {name}: no such group; {hint}")
    comments = {choice: _first_comment(groups.loader, f"{name}/{choice}") for choice in groups.choices(name)}
    columns = max(map(len, comments))
    return _escaped("\n".join([f"{name}=", *(_paragraph(choice, text, columns) for choice, text in comments.items())]))


DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz")


def _meant(group: str, choice: str) -> str | None:
    """The words to type in place of a choice that is no name of ours but of a paper, a model, a file or a function."""
    if group.split("/")[0] == "algo" and (other := algorithm_meant_by(choice)) is not None:
        return "; ".join([f"type {other.type}", *([other.note] if other.note else [])])
    if group == "model" and "/" in choice:
        return f"a model of the hub, or a folder, is model=custom model.path={choice}"
    if group == "dataset" and choice.endswith(DATA_SUFFIXES):
        return f"type dataset=file dataset.path={choice}"
    if group == "dataset" and "/" in choice:
        return f"a dataset of the hub is dataset=hub dataset.repository={choice}"
    if group == "reward" and ":" in choice:
        return f"type reward=function reward.functions=[{choice}] plugins=[{choice.split(':')[0].split('.')[0]}]"
    return None


def _loaded_groups(root: DictConfig) -> Groups:
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return Groups(loader, root.hydra.job.config_name)


def _first_comment(loader: ConfigLoaderImpl, name: str) -> str:
    paths = (Path(source.path, f"{name}.yaml") for source in loader.get_sources() if source.scheme() == "file")
    text = next((path.read_text(encoding="utf-8") for path in paths if path.is_file()), "")
    return next(_comments(text), "")


def _comments(text: str) -> Iterator[str]:
    """The comments at the beginning of a YAML, without Hydra's own, such as `# @package _global_`."""
    for line in text.splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            yield line.removeprefix("# ")


def _paragraph(label: str, text: str, columns: int = LABEL) -> str:
    first, rest = f"  {label:{columns}} ", " " * (columns + 3)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _escaped(text: str) -> str:
    return text.replace("$", "$$")  # Hydra fills in the template by string.Template


def option_at(path: Path) -> dict:
    """The settings in the file of an option, over those of the options that it builds on, as they are written."""
    own: dict = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    bases = [option_at(path.with_stem(base)) for base in own.pop("defaults", [])]
    return {key: value for part in (*bases, own) for key, value in part.items()}
