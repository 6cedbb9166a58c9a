"""A program with a Hydra configuration: composes and checks it, runs it, and exits with a code."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from winnow.config.command_line import CommandLine, as_typed, read_command_line
from winnow.config.compose import Composer, unique_name
from winnow.config.override_errors import composition_error, one_line
from winnow.errors import BUG, CONFIG, DIVERGED, DONE, INTERRUPTED, ConfigError, Diverged, Stopped
from winnow.launch import resume
from winnow.launch.jobs import exit_when_parent_dies
from winnow.launch.sweep_plan import jobs_of, refuse_two_algorithms, refuse_unchosen
from winnow.launch.task import ReportFunction, RunFunction, Task, no_report, unwrapped_error

ValidateFunction = Callable[[DictConfig], list[str]]
CompleteFunction = Callable[[CommandLine, Composer], CommandLine]


def unchanged_command(command: CommandLine, composer: Composer) -> CommandLine:
    return command


@dataclass(frozen=True)
class Program:
    """`folder/NAME.yaml` composed, `validate`d and handed to `run` together with its directory.

    `validate` raises ConfigError or returns notices; `run` returns the figure that a sweeper optimises. `complete` adds what
    the words typed stand for; `trace` is what a run must have left to be resumed; `report` says what a sweep came to.
    """

    name: str
    validate: ValidateFunction
    run: RunFunction
    folder: Path
    complete: CompleteFunction = unchanged_command
    trace: str = resume.CHECKPOINTS
    report: ReportFunction = no_report

    def exit_code(self, words: Sequence[str]) -> int:
        """Do what the command line says. An exception that is nobody's fault but ours is not caught."""
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
        exit_when_parent_dies()
        name = unique_name()  # one for the run, however often its directory is asked for
        OmegaConf.register_new_resolver("winnow.unique", lambda: name, replace=True)
        try:
            return self._start(read_command_line(words))
        except ConfigError as error:
            return _print_error(f"error: {error}", CONFIG)
        except Diverged as error:
            return _print_error(f"diverged: {error}", DIVERGED)
        except Stopped as stop:
            return stop.code
        except KeyboardInterrupt:
            return _print_error("interrupted", INTERRUPTED)

    def _start(self, command: CommandLine) -> int:
        if command.shows:
            return self._show(command)
        command, directory = self._resumed(command)
        composer = self._composer(command)
        command = self.complete(command, composer)
        cfg = composer.compose(command.overrides, command.multirun)
        refuse_two_algorithms(composer, cfg, command.overrides)
        if command.multirun or cfg.hydra.mode == RunMode.MULTIRUN:
            self._validate_all(composer, jobs_of(composer, cfg, command.overrides))
        else:
            refuse_unchosen(composer, cfg, command.overrides)
            self._validate(composer, cfg)
        if directory is not None:
            resume.refuse_changes(directory, cfg)
        return self._hydra(command)

    def _resumed(self, command: CommandLine) -> tuple[CommandLine, Path | None]:
        """The command with what `resume` adds to it, and the directory it goes on in."""
        composer = self._composer(command)
        directory = resume.requested_run(composer.parse(command.overrides), self.trace)
        if directory is None:
            return command, None
        if command.multirun:
            raise ConfigError(f"resume={directory}: continues one run; leave out -m")
        return resume.with_resumed_overrides(command, directory, composer), directory

    def _composer(self, command: CommandLine) -> Composer:
        return Composer(self.name, self.folder, command)

    def _validate(self, composer: Composer, cfg: DictConfig) -> list[str]:
        task_cfg = composer.for_task(cfg)
        try:
            return self.validate(task_cfg)
        except InstantiationException as error:  # what the configuration names cannot be built from what it says
            raise ConfigError(composition_error(unwrapped_error(error))) from error

    def _validate_all(self, composer: Composer, jobs: Sequence[Sequence[str]]) -> None:
        composed = [composer.compose(lines) for lines in jobs]  # all, before the first validation's imports
        notices = [notice for cfg in composed for notice in self._validate(composer, cfg)]
        for notice in dict.fromkeys(notices):
            print(f"note: {notice}")

    def _show(self, command: CommandLine) -> int:
        """Help, configuration, completion: Hydra's, and our words where they fail."""
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head
        try:
            return self._hydra(command)
        except (HydraException, OmegaConfBaseException) as error:
            self._composer(command).compose(command.overrides, command.multirun)
            raise ConfigError(composition_error(error)) from error

    def _hydra(self, command: CommandLine) -> int:
        task = Task(self.name, self.run, self.trace, self.report)
        main = hydra.main(config_path=str(self.folder), config_name=self.name, version_base="1.3")(task)
        with as_typed(command.words):
            try:
                main()
            except SystemExit as end:
                return end.code if isinstance(end.code, int) else DONE
        if task.error is not None:
            raise task.error
        return BUG if any(task.exit_codes) else DONE


def main(
    name: str,
    validate: ValidateFunction,
    run: RunFunction,
    complete: CompleteFunction = unchanged_command,
    trace: str = resume.CHECKPOINTS,
    report: ReportFunction = no_report,
) -> NoReturn:
    """Run the program on `sys.argv` and exit with its code (`winnow.errors`); its YAML is the package's."""
    folder = Path(str(files("winnow"))) / "conf"
    sys.exit(Program(name, validate, run, folder, complete, trace, report).exit_code(sys.argv[1:]))


def _print_error(line: str, code: int) -> int:
    print(one_line(line), file=sys.stderr)
    return code
