"""Composition of a configuration from overrides, with errors that say on one line what to type instead."""

import copy
import secrets
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from winnow.config import ranges
from winnow.config.command_line import CommandLine, read_command_line
from winnow.config.groups import Groups
from winnow.config.hydra_settings import check_hydra, check_search_path
from winnow.config.override_check import OverrideCheck
from winnow.config.override_errors import composition_error, one_line
from winnow.config.own_files import (
    import_beside,
    refuse_equal_names,
    refuse_schemas,
    require_chosen,
    require_readable,
    unnamed_directory,
)
from winnow.config.setting_rules import SEVERAL
from winnow.config.targets import check_nodes, check_plugins
from winnow.errors import ConfigError

CONF = Path(str(files("winnow"))) / "conf"
"""The YAML files of the package."""


class Composer:
    """Composes the configuration of `program` from overrides.

    Hydra's own composition would make the same configuration. This one comes before `hydra.main`, so that no run
    directory is made for overrides that are wrong, and its errors say in one line what is wrong with which override.
    """

    def __init__(self, program: str, conf: Path, command: CommandLine) -> None:
        version.setbase("1.3")
        setup_globals()
        JobRuntime.instance().set("name", program)
        self.config_name, self.config_dir = command.config_name or program, command.config_dir
        self.loader = ConfigLoaderImpl(_search_path(conf, command))
        refuse_schemas(self.config_dir)
        refuse_equal_names(self.config_dir, Path(command.config_path or conf))
        self.groups = Groups(self.loader, self.config_name)
        if not self.loader.repository.config_exists(self.config_name):
            raise ConfigError(f"--config-name {self.config_name}: no such configuration; leave it out for {program}")

    def compose(self, lines: Sequence[str], multirun: bool = False, may_sweep: bool = True) -> DictConfig:
        """The configuration with its `hydra` node; with `multirun`, without the overrides that are swept over.

        `may_sweep` says whether the command could take several values with -m.

        Raises:
            ConfigError: an override is wrong; the message says what to type instead.
        """
        overrides = [o for o in self.parse(lines) if not (multirun and o.is_sweep_override())]
        self._refuse_sweeps(overrides, may_sweep)
        import_beside(self.config_dir, self._plugins(overrides))
        choices = [o for o in overrides if self.groups.chosen_by(o)]
        for override in choices:
            self.groups.check(override)
        places = [o for o in overrides if o.get_key_element() == "hydra.searchpath"]
        for place in places:
            check_search_path(place.value(), self._plugins(overrides))
        require_chosen(self.config_dir, [("", self.config_name), *(_chosen(override) for override in choices)])
        first = choices + places
        cfg = self._base(first, RunMode.MULTIRUN if multirun else RunMode.RUN)
        for override in overrides:
            if override not in choices:
                self._apply(override, cfg)
        check_hydra(cfg)
        return cfg

    def _plugins(self, overrides: Sequence[Override]) -> list[str]:
        """The packages that are trusted by the command line."""
        values = [o.value() for o in overrides if o.get_key_element() == "plugins"]
        return [str(name) for name in values[-1]] if values and isinstance(values[-1], list) else []

    def parse(self, lines: Sequence[str]) -> list[Override]:
        """The overrides as Hydra's parser reads them.

        Raises:
            ConfigError: an override is not of the form `key=value`.
        """
        try:
            return OverridesParser.create(config_loader=self.loader).parse_overrides(list(lines))
        except OverrideParseException as error:
            raise ConfigError(_malformed(error.override)) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, hundreds of nested brackets
            raise ConfigError(f"overrides: one cannot be read ({one_line(str(error))}); correct it") from None

    def for_task(self, cfg: DictConfig) -> DictConfig:
        """`cfg` as the program will receive it, without the `hydra` node.

        Raises:
            ConfigError: a key has no value, or refers to a key that does not exist.
        """
        HydraConfig.instance().set_config(cfg)
        part = copy.deepcopy(cfg)
        with open_dict(part):
            del part["hydra"]
        try:
            with read_write(cfg.hydra.runtime):
                cfg.hydra.runtime.output_dir = str(Path(cfg.hydra.run.dir).absolute())
            missing = sorted(OmegaConf.missing_keys(part))
            OmegaConf.resolve(copy.deepcopy(part))
        except OmegaConfBaseException as error:
            raise ConfigError(composition_error(error)) from error
        for key in missing:
            top = key.split(".")[0]
            if "." in key and top not in cfg.hydra.runtime.choices and self.groups.choices(top):
                key = top  # the whole group was removed
            choices = self.groups.choices(key)
            raise ConfigError(f"{key}: has no value; type {key}=" + ("|".join(choices) if choices else "VALUE"))
        return part

    def _refuse_sweeps(self, overrides: Sequence[Override], may_sweep: bool) -> None:
        for o in overrides:
            if o.is_sweep_override():
                line, is_list = str(o.input_line), o.value_type == ValueType.SIMPLE_CHOICE_SWEEP
                if o.is_hydra_override():
                    one = (
                        line.split(",")[0]
                        if is_list and "[" not in line and "(" not in line
                        else f"{line.split('=')[0]}=VALUE"
                    )
                    raise ConfigError(f"{line}: is for the whole command, and is not swept over; type {one}")
                as_list = f", or for a list {line.replace('=', '=[', 1)}]"
                takes_list = not self.groups.chosen_by(o) or o.key_or_group in SEVERAL
                other = as_list if is_list and takes_list else ""
                if may_sweep:
                    raise ConfigError(f"{line}: several values are a sweep; type -m {line}{other}")
                one = line.split(",")[0] if is_list else "one of them"
                raise ConfigError(f"{line}: several values are a sweep, and this command takes one; type {one}{other}")

    def _base(self, overrides: Sequence[Override], mode: RunMode) -> DictConfig:
        try:
            return self.loader.load_configuration(self.config_name, [str(o.input_line) for o in overrides], mode)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
            unused = self.groups.unused(overrides, str(error))
            if not isinstance(error, MissingConfigException | OmegaConfBaseException | yaml.MarkedYAMLError):
                require_readable(self.config_dir)  # whose message names the file
            raise ConfigError(unused or composition_error(error)) from error

    def _apply(self, override: Override, cfg: DictConfig) -> None:
        check = OverrideCheck(self.groups, cfg, override)
        check.refuse()
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], cfg)
        except (
            HydraException,
            OmegaConfBaseException,
            OverflowError,
            ValueError,
            AssertionError,
            AttributeError,
        ) as error:
            problem = composition_error(error)
            raise ConfigError(f"{override.input_line}: {problem}{check.example}") from error


def _chosen(override: Override) -> tuple[str, object]:
    return override.key_or_group, None if override.is_delete() or override.is_sweep_override() else override.value()


def _search_path(conf: Path, command: CommandLine) -> ConfigSearchPath:
    path = create_config_search_path(command.config_path or str(conf))
    if command.config_dir is not None:
        extra = f"file://{Path(command.config_dir).resolve()}"
        path.prepend("command-line", extra, anchor=SearchPathQuery(provider="schema"))
    return path


def _malformed(line: str) -> str:
    key = line.split("=")[0]
    if not line.strip():
        return "an override is empty; leave it out, or type KEY=VALUE"
    if "=" not in line:
        return f"{line}: not an override; type {key}=VALUE"
    return f"{line}: cannot be read as key=value; quote a value with special characters: '{key}=\"…\"'"


def composed(program: str, words: Sequence[str], sections: Sequence[str] | None = None) -> DictConfig:
    """The configuration that `python train.py WORDS` would receive (`program` is "train").

    A tool that builds objects from some `sections` only, such as `reward.verifier`, names them: the classes of the
    others are not imported, which takes seconds, and must not be built.

    Raises:
        ConfigError: an override is wrong; the message says what to type instead.
    """
    register_unique_name()
    command = read_command_line(words)
    composer = Composer(program, CONF, command.within(unnamed_directory(installed=True)))
    cfg = composer.for_task(composer.compose(command.overrides, may_sweep=False))
    ranges.check_values(cfg)
    if sections is not None:
        check_plugins(cfg.plugins)
        for section in sections:
            check_nodes(cfg, section)
        return cfg
    from winnow.config import checks  # imports torch, which --help and completion must not wait for

    checks.check_targets(cfg)
    return cfg


def forget_schemas_of_launchers() -> None:
    """Put aside what hydra-submitit-launcher stores where it is installed: Hydra would take it for schemas of ours."""
    Plugins.instance()  # imports it
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in ("submitit_local", "submitit_slurm"):
        launchers.pop(f"{name}.yaml", None)


def register_unique_name() -> None:
    """Make `${winnow.unique:}` six hexadecimal digits, the same however often one run's directory is asked for.

    Of 100 runs that start in one second, two share their digits once in 3,000 such seconds.
    """
    name = secrets.token_hex(3)
    OmegaConf.register_new_resolver("winnow.unique", lambda: name, replace=True)
    OmegaConf.register_new_resolver("winnow.task", _task, replace=True)


def _task(*, _root_: DictConfig) -> str:
    """`${winnow.task:}` in the name of a run's directory: `task_name`, or else algorithm and model."""
    choices = _root_.hydra.runtime.choices
    return _root_.get("task_name") or f"{choices.get('algo')}-{choices.get('model')}"
