"""The task function that Hydra calls once the configuration is composed and the run directory exists."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from winnow.errors import ConfigError

RunFunction = Callable[[DictConfig, Path], float | None]
ReportFunction = Callable[[Path], str | None]


def no_report(top: Path) -> None:
    """Of programs whose sweeps are not compared."""


class Task:
    """Calls `run` in the run directory, and keeps its error from Hydra, which would print it.

    `exit_codes` are those of a sweep's jobs; the launcher adds them. `trace` is the pattern of what a run must have left to
    be resumed; `report` is called with the directory of a sweep whose jobs have ended, and says what they came to.
    """

    def __init__(self, name: str, run: RunFunction, trace: str, report: ReportFunction) -> None:
        self.__module__ = name  # Hydra names the job after the module of its task
        self.run, self.trace, self.report = run, trace, report
        self.error: Exception | None = None
        self.exit_codes: list[int] = []

    def __call__(self, cfg: DictConfig) -> float | None:
        hydra = HydraConfig.get()
        directory = Path(hydra.runtime.output_dir)
        try:
            return self.run(cfg, directory)
        except KeyboardInterrupt:
            remove_if_bare(directory)
            raise
        except SystemExit as end:  # a library's: Lightning's on SIGTERM has no code and would pass for success
            raised = RuntimeError(f"{type(end).__name__}: the run was left with code {end.code}")
            raised.__cause__ = end
        except Exception as error:
            raised = unwrapped_error(error)
        if isinstance(raised, ConfigError):
            remove_if_bare(directory)
        if hydra.mode == RunMode.MULTIRUN:  # a launcher that runs jobs in this process counts their failures
            raise raised
        self.error = raised
        return None


def unwrapped_error(error: Exception) -> Exception:
    """The ConfigError that an object raised while Hydra built it, or `error` itself."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    return cause or error


def remove_if_bare(directory: Path) -> None:
    """Remove a run directory in which only Hydra has written, and its parents while they are empty."""
    is_first_rank = os.environ.get("LOCAL_RANK", "0") == "0"
    if not is_first_rank or any(entry.name != ".hydra" for entry in directory.iterdir()):
        return
    shutil.rmtree(directory)
    here = Path.cwd()
    for parent in directory.parents:
        if here not in parent.parents or any(parent.iterdir()):
            return
        parent.rmdir()
