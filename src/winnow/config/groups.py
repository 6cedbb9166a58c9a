"""Config groups and their choices, as Hydra's loader finds them."""

from collections.abc import Sequence
from functools import cached_property

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import GroupDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from winnow.config.override_errors import choose_hint
from winnow.errors import ConfigError

RENAMED_CHOICES = {"algo/clip=outside": "algo/clip=ratio_min"}
"""Choices of earlier versions of Winnow, with the words to type instead."""


class Groups:
    """`algo`, `algo/clip` and the others, as the loader finds them."""

    def __init__(self, loader: ConfigLoaderImpl, config_name: str) -> None:
        self.loader, self.config_name = loader, config_name

    @cached_property
    def defaults(self) -> dict[str, str | None]:
        """What is chosen of each group where nothing is typed."""
        return dict(self.loader.load_configuration(self.config_name, [], RunMode.RUN).hydra.runtime.choices)

    def names(self, parent: str = "") -> list[str]:
        found = []
        for name in self.loader.list_groups(parent):
            path = f"{parent}/{name}".lstrip("/")
            found += [path] * bool(self.options(path)) + self.names(path)
        return found

    def options(self, group: str) -> list[str]:
        return self.loader.get_group_options(group, ObjectType.CONFIG)

    def choices(self, group: str) -> list[str]:
        """Also those in folders, such as paper/grpo, but not the groups nested in this one, such as algo/clip."""
        axes = {key.split("@")[0] for key in self.defaults}
        folders = [f for f in self.loader.list_groups(group) if f"{group}/{f}" not in axes]
        return self.options(group) + [f"{f}/{option}" for f in folders for option in self.options(f"{group}/{f}")]

    def chosen_by(self, override: Override) -> bool:
        """Whether the override chooses from a group; otherwise it sets a key."""
        return self.loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def check(self, override: Override) -> None:
        """
        Raises:
            ConfigError: the group has no such choice.
        """
        group, value, line = override.key_or_group, override.value(), override.input_line
        if value is None and not override.is_delete():
            raise ConfigError(f"{line}: a group is left out by not naming it, or by ~{group}")
        if override.is_add() and group in self.defaults:
            raise ConfigError(f"{line}: the group exists; type {group}={value}")
        for choice in value if isinstance(value, list) else [value]:
            if (renamed := RENAMED_CHOICES.get(f"{group}={choice}")) is not None:
                raise ConfigError(f"{group}={choice}: has been renamed; type {renamed}")
            if choice is not None and not self.loader.repository.config_exists(f"{group}/{choice}"):
                hint = choose_hint(group, str(choice), self.choices(group))
                raise ConfigError(f"{group}={choice}: no such choice; {hint}")

    def unused(self, choices: Sequence[Override], message: str) -> str | None:
        """`algo=sft algo/select=all`: the words for a group that the chosen parent does not have, if it is that."""
        for o in choices:
            parent, _, axis = o.key_or_group.rpartition("/")
            if f"Could not override '{o.get_key_element()}'. No match in the defaults list" in message:
                chosen = next((c.input_line for c in reversed(choices) if c.key_or_group == parent), parent)
                advice = f"type {parent}={axis}/{o.value()}" if chosen == parent else "leave it out"
                return f"{o.input_line}: {chosen} has no `{axis}`; {advice}"
        return None

    def holders(self, group: str) -> dict[str, list[str]]:
        """Each setting that some choice of the group has, with those choices, the default one first."""
        found: dict[str, list[str]] = {}
        for option in sorted(self.options(group), key=lambda name: name != self.defaults.get(group)):
            for key in self._settings(f"{group}/{option}"):
                found.setdefault(key, []).append(option)
        return found

    def _settings(self, path: str) -> set[str]:
        loaded = self.loader.repository.load_config(path)
        if loaded is None or not isinstance(loaded.config, DictConfig):
            return set()
        found = {str(key) for key in loaded.config if not str(key).startswith("_")}
        for default in loaded.defaults_list or []:
            if isinstance(default, GroupDefault) and default.package == "":  # _here_
                found |= self._settings(f"{path.rpartition('/')[0]}/{default.group}/{default.value}")
            elif isinstance(default, GroupDefault) and default.group is not None:
                found.add(default.group)
        return found
