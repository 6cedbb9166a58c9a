"""Hydra's composition, one override at a time, so that an error can name the override and the remedy."""

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from winnow.app import wording
from winnow.app.command_line import CommandLine
from winnow.app.misfit import Misfit
from winnow.errors import ConfigError


class Composer:
    """The configuration that a list of overrides gives, or a ConfigError of one line."""

    def __init__(self, program: str, conf: Path, command: CommandLine) -> None:
        version.setbase("1.3")
        setup_globals()
        JobRuntime.instance().set("name", program)
        path = create_config_search_path(command.config_path or str(conf))
        if command.config_dir is not None:
            extra = f"file://{Path(command.config_dir).resolve()}"
            path.prepend("command-line", extra, anchor=SearchPathQuery(provider="schema"))
        self.config_name = command.config_name or program
        self.loader = ConfigLoaderImpl(path)

    def compose(self, lines: Sequence[str], multirun: bool = False) -> DictConfig:
        """The configuration with its `hydra` node; where `multirun`, sweeps are left out.

        Raises:
            ConfigError: what is wrong with which override, and what to type instead.
        """
        overrides = [o for o in self.parse(lines) if not (multirun and o.is_sweep_override())]
        self._refuse_sweeps(overrides)
        choices = [o for o in overrides if self._is_choice(o)]
        for override in choices:
            self._check_choice(override)
        cfg = self._base(choices, [o for o in overrides if o.get_key_element() == "hydra.searchpath"], multirun)
        for override in overrides:
            if override not in choices:
                self._apply(override, cfg)
        return cfg

    def parse(self, lines: Sequence[str]) -> list[Override]:
        """
        Raises:
            ConfigError: an override that is not of the form `key=value`.
        """
        try:
            return OverridesParser.create(config_loader=self.loader).parse_overrides(list(lines))
        except OverrideParseException as error:
            raise ConfigError(_malformed(error.override)) from None

    @cached_property
    def default_choices(self) -> dict[str, str | None]:
        """What each group is without an override."""
        return dict(self.compose([]).hydra.runtime.choices)

    def options(self, group: str) -> list[str]:
        return self.loader.get_group_options(group, ObjectType.CONFIG)

    def groups(self, parent: str = "") -> list[str]:
        """Every config group, `algo/clip` style."""
        found = []
        for name in self.loader.list_groups(parent):
            path = f"{parent}/{name}".lstrip("/")
            found += [path] * bool(self.options(path)) + self.groups(path)
        return found

    def _refuse_sweeps(self, overrides: Sequence[Override]) -> None:
        for o in overrides:
            if o.is_sweep_override():
                line, simple = str(o.input_line), o.value_type == ValueType.SIMPLE_CHOICE_SWEEP
                as_list = f", or for a list {line.replace('=', '=[', 1)}]" * (simple and not self._is_choice(o))
                raise ConfigError(f"{line}: several values are a sweep; type -m {line}{as_list}")

    def _is_choice(self, override: Override) -> bool:
        return self.loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _check_choice(self, override: Override) -> None:
        group, value = override.key_or_group, override.value()
        if value is None and not override.is_delete():
            raise ConfigError(f"{override.input_line}: a group is left out by not naming it, or by ~{group}")
        if override.is_add() and group in self.default_choices:
            raise ConfigError(f"{override.input_line}: the group exists; type {group}={value}")
        for choice in value if isinstance(value, list) else [value]:
            if choice is not None and not self.loader.repository.config_exists(f"{group}/{choice}"):
                options = wording.nearest_first(str(choice), self._choices(group))
                hint = f"did you mean {group}={options[0]}? " * (options[0] in wording.close(str(choice), options))
                raise ConfigError(f"{group}={choice}: no such choice; {hint}choices: {', '.join(options)}")

    def _choices(self, group: str) -> list[str]:
        """Also those in folders, such as paper/grpo, but not the groups nested in this one, such as algo/clip."""
        axes = {key.split("@")[0] for key in self.default_choices}
        folders = [f for f in self.loader.list_groups(group) if f"{group}/{f}" not in axes]
        return self.options(group) + [f"{f}/{option}" for f in folders for option in self.options(f"{group}/{f}")]

    def _base(self, choices: Sequence[Override], paths: Sequence[Override], multirun: bool) -> DictConfig:
        lines = [str(o.input_line) for o in (*choices, *paths)]
        try:
            mode = RunMode.MULTIRUN if multirun else RunMode.RUN
            return self.loader.load_configuration(self.config_name, lines, mode)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(self._unused_choice(choices, str(error)) or wording.of_composition(error)) from error

    def _unused_choice(self, choices: Sequence[Override], message: str) -> str | None:
        """`algo=sft algo/select=all`: a group that the chosen parent does not have."""
        for o in choices:
            parent, _, axis = o.key_or_group.rpartition("/")
            if f"Could not override '{o.get_key_element()}'. No match in the defaults list" in message:
                chosen = next((c.input_line for c in reversed(choices) if c.key_or_group == parent), parent)
                return f"{o.input_line}: {chosen} has no `{axis}`; leave it out"
        return None

    def refuse_missing(self, cfg: DictConfig) -> None:
        """
        Raises:
            ConfigError: a key without a value, or one that refers to a key that does not exist.
        """
        try:
            missing = sorted(OmegaConf.missing_keys(cfg))
            OmegaConf.resolve(copy.deepcopy(cfg))
        except OmegaConfBaseException as error:
            raise ConfigError(wording.of_composition(error)) from error
        for key in missing:
            value = f"one of {', '.join(self._choices(key))}" if self.options(key) else "a value"
            raise ConfigError(f"{key}: has no value; type {key}= and {value}")

    def _apply(self, override: Override, cfg: DictConfig) -> None:
        misfit = Misfit(self, cfg, override)
        misfit.refuse()
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], cfg)
        except HydraException as error:
            problem = wording.of_composition(error)
            raise ConfigError(f"{override.input_line}: {problem}{misfit.example}") from error


def _malformed(line: str) -> str:
    key = line.split("=")[0]
    if "=" not in line:
        return f"{line}: not an override; type {key}=VALUE"
    return f"{line}: cannot be read as key=value; quote a value with special characters: '{key}=\"…\"'"


def task_part(cfg: DictConfig) -> DictConfig:
    """`cfg` without its `hydra` node, as the program receives it."""
    part = copy.deepcopy(cfg)
    with open_dict(part):
        del part["hydra"]
    return part
