"""`hydra/launcher=processes`: each job of a sweep a process of its own, `jobs` at a time."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from winnow.launch.jobs import Job
    from winnow.launch.sweep_plan import PreviousRuns
    from winnow.launch.sweep_results import JobRow, SweepResults


@dataclass
class ProcessesConf:
    _target_: str = "hydra_plugins.winnow_launcher.Processes"
    jobs: int = 1  # at a time
    threads: int | None = None  # OMP_NUM_THREADS of a job; null: as it is set outside, else cores // jobs


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessesConf, provider="winnow")


class Processes(Launcher):
    """Starts each job as the program's own command line, so that it can be run again by hand.

    To the sweeper a job that fails returns None, and the sweep goes on; `summary.csv` has its exit code. A job whose run
    is in the sweep's directory already, whatever its number was, is not run again if it was done, and else goes on.
    """

    def __init__(self, jobs: int, threads: int | None) -> None:
        self.at_once, self.threads = jobs, threads
        self.ledger: SweepResults | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from winnow.launch.sweep_plan import directory_lock as locked

        top = Path(str(self.config.hydra.sweep.dir))
        top.mkdir(parents=True, exist_ok=True)
        with locked(top) as lock:
            return self._launch(top, lock, job_overrides, initial_job_idx)

    def _launch(
        self, top: Path, lock: int, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from winnow.launch.jobs import JobPool as Crew
        from winnow.launch.jobs import cores
        from winnow.launch.sweep_plan import PreviousRuns as Earlier
        from winnow.launch.sweep_plan import minimum_detectable_effect as found_by
        from winnow.launch.sweep_results import SweepResults as Ledger

        ledger = self.ledger = self.ledger or Ledger(top)
        earlier = Earlier.below(top, self.task)
        planned = [self._plan(list(o), initial_job_idx + n, top, earlier) for n, o in enumerate(job_overrides)]
        ledger.expect([row for _, row in planned])
        threads = self.threads or int(os.environ.get("OMP_NUM_THREADS", max(1, cores() // self.at_once)))
        print(f"{len(planned)} jobs, {self.at_once} at a time, OMP_NUM_THREADS={threads}: {top}", flush=True)
        for line in found_by([row for _, row in planned], self.config):
            print(line, flush=True)
        for _, row in planned:
            if earlier.is_done(row.directory):
                ledger.done_before(row.job)
        Crew(self.at_once, threads, (lock,)).run(
            [job for job, row in planned if row.job not in ledger.over], ledger.end
        )
        ledger.close()
        self._tell_task(ledger)
        return [self._returned(row, list(o)) for (_, row), o in zip(planned, job_overrides, strict=True)]

    def _plan(self, overrides: list[str], number: int, top: Path, earlier: "PreviousRuns") -> "tuple[Job, JobRow]":
        from winnow.errors import ConfigError
        from winnow.launch.jobs import Job
        from winnow.launch.sweep_results import JobRow as Row

        cfg = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
        HydraConfig.instance().set_config(cfg)
        if Path(str(cfg.hydra.sweep.dir)) != top:
            raise ConfigError(
                f"hydra.sweep.dir: jobs of one sweep would lie in {top} and in {cfg.hydra.sweep.dir}; "
                "sweep over that in commands of their own, or choose one hydra.sweep.dir"
            )
        directory = earlier.place(cfg, top / str(cfg.hydra.sweep.subdir))
        choices = cfg.hydra.runtime.choices
        labels = {group: choices.get(group) for group in ("algo", "model", "dataset")} | {"seed": cfg.get("seed")}
        going_on = [f"resume={_quoted(str(directory))}"] if earlier.can_go_on(directory) else []
        words = (*_program(), *_flags(cfg), *(going_on or [*_for_hydra(cfg, directory), *overrides]))
        return Job(number, words, directory), Row(number, " ".join(filter_overrides(overrides)), directory, labels)

    def _tell_task(self, ledger: "SweepResults") -> None:
        from winnow.errors import ConfigError
        from winnow.launch.task import Task

        if not isinstance(self.task, Task):
            return
        self.task.exit_codes = [1 if row.exit_code is None else row.exit_code for row in ledger.rows.values()]
        try:
            told = self.task.report(ledger.path.parent)
        except ConfigError as error:
            told = f"no report: {error}"
        if told:
            print(told, flush=True)

    def _returned(self, row: "JobRow", overrides: list[str]) -> JobReturn:
        assert self.ledger is not None
        result = JobReturn(overrides=overrides, working_dir=str(row.directory), status=JobStatus.COMPLETED)
        result.return_value = self.ledger.figure(row.job)
        return result


def _program() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [sys.executable, *(["-m", spec.name] if spec is not None else [os.path.abspath(sys.argv[0])])]


def _flags(cfg: DictConfig) -> list[str]:
    """The configuration that this sweep was started with, for a job."""
    sources = {source.provider: source.path for source in cfg.hydra.runtime.config_sources}
    flags = ["--config-name", str(cfg.hydra.job.config_name), "--config-path", sources["main"]]
    return flags + (["--config-dir", sources["command-line"]] if "command-line" in sources else [])


OF_THE_SWEEP = (
    "hydra.mode",
    "hydra.run.",
    "hydra.sweep.",
    "hydra.sweeper",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra/launcher",
)


def _for_hydra(cfg: DictConfig, directory: Path) -> list[str]:
    """Hydra's settings of a job: the user's but for those of the sweep, the job's number and its directory."""
    typed = [line for line in cfg.hydra.overrides.hydra if not line.lstrip("+~").startswith(OF_THE_SWEEP)]
    place = {
        "hydra.run.dir": _quoted(str(directory)),
        "hydra.sweep.dir": _quoted(str(cfg.hydra.sweep.dir)),
        "hydra.sweep.subdir": _quoted(str(cfg.hydra.sweep.subdir)),
        "hydra.job.num": str(cfg.hydra.job.num),
        "hydra.job.id": _quoted(str(cfg.hydra.job.id)),
    }
    return typed + [f"{key}={value}" for key, value in place.items()]


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()
