"""A program with a Hydra configuration: refuses on one line what cannot run, then runs it, then says how it ended."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from winnow.app import command_line, resume, wording
from winnow.app.command_line import CommandLine
from winnow.app.composition import Composer, task_part
from winnow.app.sweep import jobs_of
from winnow.app.task import Run, Task, unwrapped
from winnow.app.unique import unique
from winnow.errors import BUG, CONFIG, DIVERGED, DONE, INTERRUPTED, ConfigError, Diverged, Stopped

Validate = Callable[[DictConfig], list[str]]


@dataclass(frozen=True)
class Program:
    """`conf/NAME.yaml` composed, `validate`d and handed to `run` together with its directory.

    `validate` raises ConfigError or returns notices; `run` returns the figure that a sweeper optimises.
    """

    name: str
    validate: Validate
    run: Run

    def exit_code(self, words: Sequence[str]) -> int:
        """Do what the command line says. An exception that is nobody's fault but ours is not caught."""
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
        OmegaConf.register_new_resolver("winnow.unique", unique, replace=True)
        try:
            return self._start(command_line.read(words))
        except ConfigError as error:
            return _say(f"error: {error}", CONFIG)
        except Diverged as error:
            return _say(f"diverged: {error}", DIVERGED)
        except Stopped as stop:
            return stop.code
        except KeyboardInterrupt:
            return _say("interrupted", INTERRUPTED)

    def _start(self, command: CommandLine) -> int:
        if command.shows:
            return self._show(command)
        command, composer = self._prepared(command)
        cfg = composer.compose(command.overrides, command.multirun)
        if command.multirun or cfg.hydra.mode == RunMode.MULTIRUN:
            jobs = jobs_of(composer, cfg, command.overrides)
            self._validate_all(composer, jobs)
        else:
            self._validate(composer, cfg)
        return self._hydra(command)

    def _prepared(self, command: CommandLine) -> tuple[CommandLine, Composer]:
        """The command with what `resume` adds to it."""
        composer = self._composer(command)
        directory = resume.requested(composer.parse(command.overrides))
        if directory is None:
            return command, composer
        if command.multirun:
            raise ConfigError(f"resume={directory}: continues one run; leave out -m")
        command = resume.extended(command, directory, composer)
        composer = self._composer(command)
        resume.refuse_changes(directory, composer.compose(command.overrides))
        return command, composer

    def _composer(self, command: CommandLine) -> Composer:
        return Composer(self.name, conf(), command)

    def _validate(self, composer: Composer, cfg: DictConfig) -> list[str]:
        HydraConfig.instance().set_config(cfg)
        task_cfg = task_part(cfg)
        composer.refuse_missing(task_cfg)
        try:
            return self.validate(task_cfg)
        except InstantiationException as error:  # what the configuration names cannot be built from what it says
            raise ConfigError(wording.of_composition(unwrapped(error))) from error

    def _validate_all(self, composer: Composer, jobs: Sequence[Sequence[str]]) -> None:
        notices: dict[str, None] = {}
        for lines in jobs:
            notices |= dict.fromkeys(self._validate(composer, composer.compose(lines)))
        for notice in notices:
            print(f"note: {notice}")

    def _show(self, command: CommandLine) -> int:
        """Help, configuration, completion: Hydra's, and our words where they fail."""
        try:
            return self._hydra(command)
        except (HydraException, OmegaConfBaseException) as error:
            self._composer(command).compose(command.overrides, command.multirun)
            raise ConfigError(wording.of_composition(error)) from error

    def _hydra(self, command: CommandLine) -> int:
        task = Task(self.name, self.run)
        main = hydra.main(config_path=str(conf()), config_name=self.name, version_base="1.3")(task)
        with command_line.as_typed(command.words):
            try:
                main()
            except SystemExit as end:
                return end.code if isinstance(end.code, int) else DONE
        if task.error is not None:
            raise task.error
        return BUG if any(task.exit_codes) else DONE


def main(name: str, validate: Validate, run: Run) -> None:
    """Run the program on `sys.argv` and exit with its code (`winnow.errors`)."""
    sys.exit(Program(name, validate, run).exit_code(sys.argv[1:]))


def conf() -> Path:
    """The folder of YAML in the package."""
    return Path(str(files("winnow"))) / "conf"


def _say(line: str, code: int) -> int:
    print(wording.one_line(line), file=sys.stderr)
    return code
