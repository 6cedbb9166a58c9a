"""Program with a Hydra configuration: it composes and checks that, runs the task, and exits with a code."""

import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from winnow import signals
from winnow.config.command_line import CommandLine, as_typed, read_command_line
from winnow.config.compose import CONF, Composer, forget_schemas_of_launchers, register_unique_name
from winnow.config.hydra_settings import hydra_mode
from winnow.config.override_errors import composition_error
from winnow.config.own_files import unnamed_directory
from winnow.config.saved_runs import SavedRun
from winnow.errors import (
    BUG,
    CONFIG,
    DISK,
    DIVERGED,
    DONE,
    INTERRUPTED,
    ConfigError,
    DiskFailure,
    Diverged,
    LostRank,
    Stopped,
)
from winnow.files import DiskErrors, keep_compiled_code
from winnow.launch import agreement, resume
from winnow.launch.jobs import exit_when_parent_dies
from winnow.launch.run_directory import (
    CHECKPOINTS,
    refuse_foreign_sweep,
    refuse_occupied_sweep,
    refuse_taken,
    refuse_unwritable,
    remove_if_bare,
    run_directory,
    sweep_directory,
)
from winnow.launch.submission import require_submitit
from winnow.launch.sweep_plan import config_hash, jobs_of, refuse_choices, require_other_words, same_runs
from winnow.launch.sweep_results import HELD_OUT, SweepResults, optimised_figure
from winnow.process_group import is_first_rank, launched_from_outside
from winnow.visible_text import message

LEAVING_SECONDS = 20.0
"""Time for a process that has lost another rank to end by itself."""
OUR_LAUNCHERS = ("hydra_plugins.winnow_launcher.Processes", "hydra_plugins.winnow_submitit.Submitted")
"""Launchers that continue a sweep, and keep its table."""


@dataclass(frozen=True)
class Program:
    """A program whose configuration is `folder/NAME.yaml`.

    Attributes:
        validate: Raises ConfigError, or returns notices. It is called before a run directory is made.
        run: Runs the task in the run directory, and returns the figure that a sweeper optimises.
        complete: Adds the overrides that typed ones stand for, such as those of the run that `evaluate.py run=` names.
        trace: Glob pattern of what a run must have left in its directory to be resumed.
        report: Called with the directory of a sweep whose jobs have all ended; returns what to print about them.
        essence: A hash of what a configuration computes; jobs of a sweep with one hash are merged.
        gpus: The number of GPUs that a job of a sweep is to have for itself, by the number of jobs at a time.
        installed: Whether the program is `winnow NAME`, and not a script `NAME.py`.
    """

    name: str
    validate: Callable[[DictConfig], list[str]]
    run: Callable[[DictConfig, Path], float | None]
    folder: Path = CONF
    complete: Callable[[CommandLine, Composer], CommandLine] = lambda command, composer: command
    trace: str = CHECKPOINTS
    report: Callable[[Path], str | None] = lambda top: None
    essence: Callable[[DictConfig], str | None] = lambda cfg: None
    gpus: Callable[[DictConfig, int], int] = lambda cfg, at_once: 0
    installed: bool = False

    @property
    def subcommand(self) -> tuple[str, ...]:
        """The word between the command `winnow` and overrides; none for a script."""
        return (self.name,) if self.installed else ()

    @property
    def command(self) -> list[str]:
        """The command that starts the program in another process, without overrides."""
        # -P: a file in the working directory must not take the place of a module.
        arguments = ["-P", "-m", "winnow", *self.subcommand] if self.installed else [os.path.abspath(sys.argv[0])]
        return [sys.executable, *arguments]

    def main(self) -> NoReturn:
        """Run the program on `sys.argv`, and exit with its code (`winnow.errors`)."""
        signals.install()
        code = self.exit_code(sys.argv[1:])
        gc.freeze()  # Python's last search for cycles would go through all of torch's objects for a second
        sys.exit(code)

    def exit_code(self, words: Sequence[str]) -> int:
        """Do what the command line says. Errors that are bugs of Winnow are not caught, and keep their traceback."""
        exit_when_parent_dies()
        try:
            with signals.caught():
                return self.start(words).exit_code
        except agreement.NothingToDo:
            return CONFIG
        except ConfigError as error:
            return _print_error(f"error: {error}", CONFIG)
        except Diverged as error:
            return _print_error(f"diverged: {error}" if is_first_rank() else "", DIVERGED)
        except DiskFailure as failure:
            return _print_error(f"disk: {failure}" if is_first_rank() else "", DISK)
        except LostRank:  # the rank that met it first has said so
            # NCCL may wait for the rank that is gone while this process gives back its communicators.
            faulthandler.dump_traceback_later(LEAVING_SECONDS, exit=True)  # with exit code 1
            return BUG
        except Stopped as stop:
            # The first rank's code is the run's. Lightning would kill that rank while it still writes.
            return stop.code if is_first_rank() else DONE
        except KeyboardInterrupt:
            return _print_error("interrupted", INTERRUPTED)

    def start(self, words: Sequence[str]) -> "Ended":
        """Do what the command line says, and raise what goes wrong.

        Raises:
            ConfigError, Diverged, DiskFailure, Stopped: as their exit codes (`winnow.errors`) say.
        """
        register_unique_name()
        forget_schemas_of_launchers()
        keep_compiled_code()
        with (
            _environment({"HYDRA_FULL_ERROR": "1"}),  # Hydra then raises instead of printing and exiting
            DiskErrors(Path.cwd(), lambda: "make room there, or have it writable again, and start again"),
        ):
            return self._start(read_command_line(words))

    def _start(self, command: CommandLine) -> "Ended":
        if command.shows:
            return self._show(command)
        ranks = agreement.Agreement(launched_from_outside())
        if ranks.waits:
            agreed = ranks.ask()
            return self._run(agreed.joined(command, self._composer(command)), ranks)
        with ranks.first():
            return self._run(command, ranks)

    def _run(self, command: CommandLine, ranks: agreement.Agreement) -> "Ended":
        typed = command
        command, resumed = self._resumed(command)
        command = self.complete(command, self._composer(command))
        command = command.within(unnamed_directory(self.installed))
        composer = self._composer(command)
        cfg = composer.compose(command.overrides, command.multirun)
        is_sweep = command.multirun or hydra_mode(cfg) == RunMode.MULTIRUN
        refuse_choices(composer, cfg, command.overrides, is_sweep)
        if is_first_rank():
            agreement.require_ranks(cfg, launched_from_outside(), self.trace == CHECKPOINTS)
        if is_sweep:
            agreement.refuse_sweep(launched_from_outside())
            if str(cfg.hydra.launcher._target_) == OUR_LAUNCHERS[1]:
                require_submitit(cfg.hydra.launcher)
            jobs = jobs_of(composer, cfg, command.overrides)
            top = Path(str(cfg.hydra.sweep.dir))
            refuse_unwritable(top, "hydra.sweep.dir")
            refuse_foreign_sweep(top)
            self._validate_all(composer, jobs)
            return self._sweep(command, cfg)
        directory = Path(str(cfg.hydra.run.dir))
        if is_first_rank():
            composer.for_task(cfg)
            if resumed is None:
                refuse_taken(directory)
            else:
                resume.refuse_changes(resumed, cfg, composer.parse(typed.overrides), self.trace)
        self._validate(composer, cfg)
        if is_first_rank() and OmegaConf.select(cfg, "extras.print_config"):
            from winnow.launch.config_tree import print_tree

            print_tree(composer.for_task(cfg))
        signals.check()
        if not is_first_rank():  # the first rank has started this one in its directory
            return self._hydra(command)
        # Named outright, because a directory with the time in its name would get another one from Hydra a second later.
        command = replace(command, overrides=(*command.overrides, f"hydra.run.dir={resume.quoted(directory)}"))
        with run_directory(directory, self.name, resumed is not None):
            ranks.tell(directory, resumed is not None)
            return self._hydra(command, resumed is not None)

    def _sweep(self, command: CommandLine, cfg: DictConfig) -> "Ended":
        """Run a sweep. Our launcher looks after the directories itself; for others the sweep's has to be empty."""
        top = Path(str(cfg.hydra.sweep.dir))
        if str(cfg.hydra.launcher._target_).startswith(OUR_LAUNCHERS):
            return self._hydra(command)
        refuse_occupied_sweep(top)
        command = replace(command, overrides=(*command.overrides, f"hydra.sweep.dir={resume.quoted(top)}"))
        with sweep_directory(top):
            return self._hydra(command)

    def _resumed(self, command: CommandLine) -> tuple[CommandLine, SavedRun | None]:
        """The command with the overrides that `resume` adds to it, and the run that it continues, if any."""
        composer = self._composer(command)
        run = resume.requested_run(composer.parse(command.overrides), self.name, self.trace)
        if run is None:
            return command, None
        if command.multirun:
            raise ConfigError(f"resume={run.directory}: continues one run; leave out -m")
        return resume.with_resumed_overrides(command, run, composer), run

    def _composer(self, command: CommandLine) -> Composer:
        return Composer(self.name, self.folder, command)

    def _validate(self, composer: Composer, cfg: DictConfig) -> list[str]:
        task_cfg = composer.for_task(cfg)
        try:
            return self.validate(task_cfg)
        except InstantiationException as error:  # an object refused its settings while Hydra built it
            raise ConfigError(composition_error(unwrapped_error(error))) from error
        except OmegaConfBaseException as error:  # a setting that every run needs was removed
            raise ConfigError(composition_error(error)) from error

    def _validate_all(self, composer: Composer, jobs: Sequence[Sequence[str]]) -> None:
        # All jobs are composed before the first is validated: validation imports torch, which takes seconds.
        composed = [composer.compose(lines) for lines in jobs]
        first: dict[str, Sequence[str]] = {}
        for cfg, job in zip(composed, jobs, strict=True):
            before = first.setdefault(config_hash(composer.for_task(cfg)), job)
            if before is not job and str(cfg.hydra.launcher._target_).startswith(OUR_LAUNCHERS):
                require_other_words(before, job, cfg.hydra.launcher.merge)
        notices = [notice for cfg in composed for notice in self._validate(composer, cfg)]
        essences = [self.essence(composer.for_task(cfg)) for cfg in composed]
        for notice in dict.fromkeys([*notices, *same_runs(essences, jobs)]):
            print(message(f"note: {notice}"))

    def _show(self, command: CommandLine) -> "Ended":
        """Print help, a configuration or a completion as Hydra does, but with our messages for its errors."""
        command = command.within(unnamed_directory(self.installed))
        before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head
        try:
            if command.informs:  # Hydra sets up its logging for that, which has to be checked first
                self._composer(command).compose(command.overrides, command.multirun)
            return self._hydra(command)
        except (HydraException, OmegaConfBaseException) as error:
            self._composer(command).compose(command.overrides, command.multirun)
            raise ConfigError(composition_error(error)) from error
        finally:
            sys.stdout.flush()
            signal.signal(signal.SIGPIPE, before)

    def _hydra(self, command: CommandLine, resumed: bool = False) -> "Ended":
        task = Task(self, resumed)
        main = hydra.main(config_path=str(self.folder), config_name=self.name, version_base="1.3")(task)
        with as_typed(command.words):
            try:
                main()
            except SystemExit as end:
                return Ended(end.code if isinstance(end.code, int) else DONE)
            except ValueError as error:
                if task.sweep is None or task.sweep.best() is not None:
                    raise
                # Optuna's, which has nothing to report
                raise ConfigError(
                    f"no trial of this search ended with a figure `{task.sweep.metric}`; {task.sweep.path} says how "
                    "each ended"
                ) from error
            finally:
                if task.sweep is not None and task.sweep.is_search:
                    task.report()
        if task.sweep is not None and task.sweep.is_search:
            task.sweep.keep_best()
            print(message(task.sweep.best_in_words()))
        if task.error is not None:
            raise task.error
        return Ended(_code_of_sweep(task.exit_codes), task.directory)


def _code_of_sweep(codes: Sequence[int]) -> int:
    """The exit code of a sweep by those of its jobs: 2 if those that failed were refused."""
    failed = {code for code in codes if code != DONE}
    return CONFIG if failed == {CONFIG} else BUG if failed else DONE


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Context in which environment variables have these values."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@dataclass(frozen=True)
class Ended:
    """The end of a program: its exit code, and the run's directory if it was a single run."""

    exit_code: int
    directory: Path | None = None


@dataclass
class Task:
    """The function that Hydra calls once the configuration is composed and the run directory exists.

    It keeps the error of a run from Hydra, which would print it. `exit_codes` are those of a sweep's jobs, which are in
    `sweep`; the launcher adds them. The directory of a run that is `resumed` stays, whatever happens.
    """

    program: Program
    resumed: bool = False
    directory: Path | None = None
    error: Exception | None = None
    exit_codes: list[int] = field(default_factory=list)
    sweep: SweepResults | None = None

    def __post_init__(self) -> None:
        self.__module__ = self.program.name  # Hydra names the job after the module of its task

    def __call__(self, cfg: DictConfig) -> float | None:
        hydra = HydraConfig.get()
        directory = self.directory = Path(hydra.runtime.output_dir)
        try:
            with as_typed([*self.program.subcommand, *sys.argv[1:]]):  # Lightning starts further ranks by these words
                figure = self.program.run(cfg, directory)
            metric = cfg.get("optimized_metric", HELD_OUT)
            return figure if metric == HELD_OUT else optimised_figure(directory, metric)
        except (KeyboardInterrupt, Stopped):
            self._remove_if_bare(directory)
            raise
        except SystemExit as end:  # Lightning raises it on SIGTERM, without a code, which would pass for success
            raised = RuntimeError(f"{type(end).__name__}: the run was left with code {end.code}")
            raised.__cause__ = end
        except Exception as error:
            raised = unwrapped_error(error)
        if isinstance(raised, ConfigError):
            self._remove_if_bare(directory)
        if hydra.mode == RunMode.MULTIRUN:  # a launcher that runs jobs in this process counts their failures
            raise raised
        self.error = raised
        return None

    def report(self) -> None:
        """Write the report of the sweep, whose jobs have ended, and print what it says."""
        assert self.sweep is not None
        top = self.sweep.path.parent
        try:
            with signals.answered_by(lambda: f"every job has ended, but there is no report; type winnow report {top}"):
                report = self.program.report(top)
        except ConfigError as error:
            report = f"no report: {error}"
        if report:
            print(report, flush=True)

    def _remove_if_bare(self, directory: Path) -> None:
        if not self.resumed:
            remove_if_bare(directory)


def unwrapped_error(error: Exception) -> Exception:
    """The ConfigError that an object raised while Hydra built it, or `error` itself."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    return cause or error


def _print_error(line: str, code: int) -> int:
    if line:  # of an error that all ranks share, the first one's
        print(message(line), file=sys.stderr)
    return code
