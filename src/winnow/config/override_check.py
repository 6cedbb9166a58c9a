"""Check of one override against the configuration that it changes."""

from difflib import get_close_matches
from functools import cached_property
from typing import NoReturn

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from winnow.config.groups import REMOVED_GROUPS, RENAMED_KEYS, Groups
from winnow.config.other_names import PLACEHOLDER, named_exactly, named_like_its_end, spelt_like
from winnow.config.override_errors import did_you_mean, keys_of, or_list, similar_keys, wrong_kind
from winnow.errors import ConfigError

ONE_OR_SEVERAL = ("problem_field", "answer_field", "solution_field", "target_modules")
"""Settings that take a word or a list of words."""
NUMBER_OR_WORD = {"checkpoint.keep": "all", "hardware.devices": "auto"}
"""Settings that take a number or this word."""

UNTYPED = (
    "hydra",
    "algo",
    "model",
    "dataset",
    "benchmarks",
    "curriculum",
    "collector",
    "reward",
    "engine",
    "logger",
    "callbacks",
)
"""Nodes whose settings may be deleted: what then is missing is found when an object is built from them."""
SET_BY_HYDRA = ("hydra.runtime.", "hydra.overrides.")


def _is_one_or_several(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(word, str) for word in value))


def _selected(cfg: DictConfig, key: str) -> object:
    """The value of a key; None where it has none, or where that cannot be worked out."""
    try:
        return OmegaConf.select(cfg, key, throw_on_missing=False)
    except OmegaConfBaseException:
        return None


class OverrideCheck:
    """An override of a key (not a choice from a group), checked before it is applied to `cfg`."""

    def __init__(self, groups: Groups, cfg: DictConfig, override: Override) -> None:
        self.groups, self.cfg, self.override = groups, cfg, override
        self.key, self.line = override.key_or_group, str(override.input_line)

    def refuse(self) -> None:
        """Check the key and the kind of its value.

        Raises:
            ConfigError: the key is unknown, or its value is of another kind than the one it replaces.
        """
        if self.key.startswith(SET_BY_HYDRA):
            raise ConfigError(f"{self.line}: is set by Hydra itself; leave it out")
        if "/" in self.key:
            self._refuse_group()
        if self.key not in self.known:
            if not self._may_be_added():
                raise ConfigError(f"{self.line}: {self._unknown()}")
        elif self.override.is_add():
            raise ConfigError(f"{self.line}: the key exists; type {self.line.removeprefix('+')}")
        elif not self.override.is_delete():
            self._refuse_kind()
        elif self.key.split(".")[0] not in UNTYPED:
            raise ConfigError(f"{self.line}: every run needs this setting; leave out the {self.line}")

    @cached_property
    def known(self) -> list[str]:
        part = self.cfg.hydra if self.key.split(".")[0] == "hydra" else self.cfg
        prefix = "hydra." if part is not self.cfg else ""
        # The settings that a search is over bear the names of those that it sets.
        return [key for key in keys_of(part, prefix) if prefix or not key.startswith("hydra.sweeper.params.")]

    @cached_property
    def anchor(self) -> str:
        """The longest beginning of the key that exists; empty if none does."""
        parts = self.key.split(".")
        starts = (".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1))
        return next((start for start in starts if start in self.known or start == "hydra"), "")

    def _may_be_added(self) -> bool:
        """Whether the unknown key may be set all the same: an element of a list, a `_target_`, or, by `+`, a setting of
        a node that other packages read. Nodes of Winnow accept no further settings."""
        node = _selected(self.cfg, self.anchor) if self.anchor else None
        if not isinstance(node, DictConfig):
            return isinstance(node, ListConfig)
        foreign = not str(node.get("_target_", "winnow.")).startswith("winnow.")
        adds = self.override.is_add() or self.override.is_force_add()
        return (adds and (foreign or self.key.startswith("hydra."))) or self.key.endswith("._target_")

    def _refuse_group(self) -> NoReturn:
        if (instead := REMOVED_GROUPS.get(self.key.split("@")[0])) is not None:
            raise ConfigError(f"{self.line}: the group has been removed; {instead}")
        dotted, groups = self.key.replace("/", "."), self.groups.names()
        if dotted in self.known:
            raise ConfigError(f"{self.line}: not a group; type {self.line.replace('/', '.', self.key.count('/'))}")
        ours = ", ".join(group for group in groups if not group.startswith("hydra"))
        hint = did_you_mean(get_close_matches(self.key, groups, n=1), f"groups: {ours}")
        raise ConfigError(f"{self.line}: no such group; {hint}")

    def _refuse_kind(self) -> None:
        value, group = self.override.value(), self.key.replace(".", "/")
        choices = self.groups.options(group) if isinstance(value, str) else []
        if choices and (isinstance(self.old, DictConfig) or value in choices):
            raise ConfigError(f"{self.line}: {group} is a group; type {group}={value}")
        if self.key.split(".")[-1] in ONE_OR_SEVERAL and _is_one_or_several(value):
            return
        if isinstance(self.old, DictConfig) and isinstance(value, str) and self.key.startswith("hydra."):
            raise ConfigError(f"{self.line}: a single value where there is a group of settings{self.example}")
        if self.key in NUMBER_OR_WORD and NUMBER_OR_WORD[self.key] in (value, self.old):
            return  # whether it is a number in range is checked later
        problem = wrong_kind(self.old, value)  # pyright: ignore[reportArgumentType]
        if problem is not None:
            raise ConfigError(f"{self.line}: {problem}{self.example}")

    @property
    def settable(self) -> list[str]:
        """The known keys but those that Hydra sets, which are no answer to a misspelt one."""
        return [key for key in self.known if not key.startswith(SET_BY_HYDRA)]

    @cached_property
    def old(self) -> object:
        """The value before the override."""
        return _selected(self.cfg, self.key)

    @property
    def example(self) -> str:
        """An example of a value of the right kind, as the end of a message."""
        match self.old:
            case DictConfig() if not self.old:
                return ""
            case DictConfig():
                own = [str(key) for key in self.old if not str(key).startswith("_")]
                return f"; set its keys, such as {self.key}.{own[0]}" if own else ""
            case ListConfig() if not self.old:
                return f"; type {self.key}=[{self.override.value()}]"
            case ListConfig():
                return f"; type for example {self.key}=[{','.join(map(str, self.old))}]"
            case None:
                return ""
        return f"; type for example {self.key}={self.old}"

    def _unknown(self) -> str:
        missing = self.key.removeprefix(f"{self.anchor}.").split(".")[0]
        group = self.anchor.replace(".", "/")
        choice = self.cfg.hydra.runtime.choices.get(group)
        if (renamed := RENAMED_KEYS.get(self.key)) is not None:
            return f"has been renamed; type {renamed}={self._typed_value}"
        siblings = self.groups.holders(group) if choice is not None else {}
        has_namesake = any(other.endswith(f".{self.key}") for other in self.settable)
        if not has_namesake and (other := named_exactly(self.key)) is not None:
            return other.answer(self._typed_value)
        if missing in siblings:
            best, *others = siblings[missing]
            also = f" (or {or_list(others)})" if others else ""
            return f"{group}={choice} has no `{missing}`; type {group}={best} {self.line}{also}"
        similar = similar_keys(self.key, self.settable)
        near = get_close_matches(missing, siblings, n=1)
        beside = [key for key in similar if self.anchor and key.startswith(f"{self.anchor}.")]
        other = None if has_namesake or near or beside else named_like_its_end(self.key)
        if other is None and not similar and not near:
            other = spelt_like(self.key)
        if other is not None:
            return other.answer(self._typed_value)
        if not similar and near:
            return f"no such key; did you mean {self.anchor}.{near[0]}, with {group}={siblings[near[0]][0]}?"
        inside = ", ".join(k.removeprefix(f"{self.anchor}.") for k in self.known if self._directly_inside(k))
        where = f"{self.anchor} has {inside or 'no settings'}" if self.anchor else f"there are {inside}"
        return f"no such key; {did_you_mean(similar, where)}"

    @property
    def _typed_value(self) -> str:
        """The text behind the = of the override; VALUE where there is none."""
        return self.line.partition("=")[2] or PLACEHOLDER

    def _directly_inside(self, key: str) -> bool:
        return key.rpartition(".")[0] == self.anchor and key != "hydra"
