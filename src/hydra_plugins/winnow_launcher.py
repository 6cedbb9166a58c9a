"""Hydra launcher `hydra/launcher=processes`: each job of a sweep is a process of its own, and `jobs` run at a time."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from winnow.errors import CONFIG, EXIT_CODE_OF_SIGNAL, ConfigError, Stopped

# Hydra imports this file for every program of the environment, also for those that have nothing to do with Winnow:
# what it needs to run a sweep is imported when one is launched.
if TYPE_CHECKING:
    from winnow.launch.jobs import EndedJob, Gpus, Job, JobPool
    from winnow.launch.merged_jobs import MergedJobs
    from winnow.launch.sweep_plan import PreviousRuns
    from winnow.launch.sweep_results import JobRow, SweepResults


@dataclass
class ProcessesConf:
    """Settings `hydra.launcher.jobs`, `hydra.launcher.threads` and `hydra.launcher.merge`."""

    _target_: str = "hydra_plugins.winnow_launcher.Processes"
    jobs: int = 1  # at a time
    threads: int | None = None  # OMP_NUM_THREADS of a job; null: as it is set outside, else cores // jobs
    merge: bool = True  # jobs that provably train the same are one run


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessesConf, provider="winnow")


class Processes(Launcher):
    """Starts each job with a command line of the program, which can be typed again by hand.

    For a job that fails the sweeper receives None, and the sweep continues; `summary.csv` has its exit code. A job
    whose run is in the sweep's directory already, under whatever number, is skipped if it is done, and else resumed.
    With `merge`, a job that provably trains what another one trains is not run: one run stands for both.
    """

    def __init__(self, jobs: int, threads: int | None, merge: bool) -> None:
        self.at_once, self.threads, self.merge = jobs, threads, merge
        self.results: SweepResults | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from winnow.launch.merged_jobs import MergedJobs
        from winnow.launch.program import Task
        from winnow.launch.run_directory import CHECKPOINTS, sweep_directory
        from winnow.launch.sweep_plan import PreviousRuns, equal_jobs, minimum_detectable_effect
        from winnow.launch.sweep_results import HELD_OUT, SweepResults

        top = Path(str(self.config.hydra.sweep.dir))
        with sweep_directory(top) as lock:
            # A sweeper may launch several batches of jobs.
            results = self.results = self.results or SweepResults(
                top,
                str(self.config.get("optimized_metric", HELD_OUT)),
                self._direction(),
                list(self.config.hydra.overrides.task),
            )
            # An evaluation takes overrides from the run that it names, which the planned configuration does not hold.
            name = self.task.program.name if isinstance(self.task, Task) else ""
            identifiable = isinstance(self.task, Task) and self.task.program.trace == CHECKPOINTS
            previous = PreviousRuns.below(top, name) if identifiable else PreviousRuns(name, {}, identifiable=False)
            # A search may propose one trial twice; in a grid that is a mistake, which `place` refuses.
            proposed = dict.fromkeys(map(tuple, job_overrides)) if results.is_search else job_overrides
            planned = [self._plan(list(o), initial_job_idx + n, top, previous) for n, o in enumerate(proposed)]
            jobs, rows = [job for job, _, _ in planned], [row for _, row, _ in planned]
            results.expect(rows)
            merged = equal_jobs([(row, essence) for _, row, essence in planned], previous) if self.merge else {}
            threads = self._threads()
            pool = self._pool(threads, lock)
            pool.gpus = self._gpus(jobs)
            told = "" if threads is None else f", OMP_NUM_THREADS={threads}"
            print(
                f"{len(jobs)} jobs, {self.at_once} at a time{told}{pool.gpus.told(jobs, self.at_once)}: {top}",
                flush=True,
            )
            for line in minimum_detectable_effect([row for row in rows if row.job not in merged], self.config):
                print(line, flush=True)
            _run(jobs, [row.job for row in rows if previous.is_done(row.directory)], pool, MergedJobs(merged, results))
            results.close()
            if pool.is_held:
                print("every job that was started was refused; correct that, and type the sweep again", flush=True)
            self._report(results)
        if pool.received:
            raise Stopped(EXIT_CODE_OF_SIGNAL[signal.Signals(pool.received[0])])
        row_of = dict(zip(map(tuple, proposed), rows, strict=True))
        return [_returned(o, row_of[tuple(o)], results) for o in job_overrides]

    def _threads(self) -> int | None:
        """OMP_NUM_THREADS of a job; None where the job itself finds its cores."""
        from winnow.launch.jobs import cores

        return self.threads or int(os.environ.get("OMP_NUM_THREADS", max(1, cores() // self.at_once)))

    def _pool(self, threads: int | None, lock: int) -> "JobPool":
        from winnow.launch.jobs import JobPool, cores

        return JobPool(self.at_once, threads or cores(), (lock,))

    def _gpus(self, jobs: "Sequence[Job]") -> "Gpus":
        """The GPUs that are divided among the jobs."""
        from winnow.launch.jobs import Gpus

        if not any(job.gpus for job in jobs):
            return Gpus(())
        import torch

        from winnow.process_group import visible_gpus

        return Gpus(visible_gpus(os.environ, torch.cuda.device_count()))

    def _plan(
        self, overrides: list[str], number: int, top: Path, previous: "PreviousRuns"
    ) -> "tuple[Job, JobRow, str | None]":
        """A job, its row of the table, and the essence of what it trains."""
        from winnow.launch.jobs import Job
        from winnow.launch.resume import quoted
        from winnow.launch.sweep_results import JobRow

        cfg = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
        HydraConfig.instance().set_config(cfg)
        if Path(str(cfg.hydra.sweep.dir)) != top:
            raise ConfigError(
                f"hydra.sweep.dir: jobs of this sweep would lie in both {top} and {cfg.hydra.sweep.dir}; "
                "sweep over that in commands of their own, or choose one hydra.sweep.dir"
            )
        overrides = [line for line in overrides if not line.startswith(SEARCH)]
        essence, gpus = self._essence_and_gpus(cfg)
        directory = previous.place(cfg, top / str(cfg.hydra.sweep.subdir), overrides, essence is not None)
        choices = cfg.hydra.runtime.choices
        labels = {group: choices.get(group) for group in ("algo", "model", "dataset")} | {"seed": cfg.get("seed")}
        start = (*self._program(), *_flags(cfg))
        begin = (*start, *_hydra_overrides(cfg, directory), *overrides)
        # A run that is not known by its configuration gets its overrides too: it refuses those that change it.
        again = (*start, f"resume={quoted(directory)}", *(() if previous.identifiable else overrides))
        job = Job(number, again if previous.is_resumable(directory) else begin, directory, again, gpus)
        row = JobRow(number, " ".join(filter_overrides(overrides)), directory, labels)
        return job, row, essence

    def _essence_and_gpus(self, cfg: DictConfig) -> tuple[str | None, int]:
        """The essence by which equal jobs are merged, None where none are; and the number of GPUs of a job."""
        from winnow.launch.program import Task

        if not isinstance(self.task, Task):
            return None, 0
        program, part = self.task.program, OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        return program.essence(part) if self.merge else None, program.gpus(part, self.at_once)

    def _program(self) -> list[str]:
        """The command that starts a job, without its words."""
        from winnow.launch.program import Task

        if isinstance(self.task, Task):
            return self.task.program.command
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        return [sys.executable, *(["-m", spec.name] if spec is not None else [os.path.abspath(sys.argv[0])])]

    def _direction(self) -> str | None:
        """The direction in which the sweeper searches, such as maximize; None of one that only goes through values."""
        direction = self.config.hydra.sweeper.get("direction")
        return None if direction is None else str(getattr(direction, "name", direction))

    def _report(self, results: "SweepResults") -> None:
        from winnow.launch.program import Task

        if not isinstance(self.task, Task):
            return
        # Without a signal, a job is not started only because the settings of all those before it were refused.
        self.task.exit_codes = [CONFIG if row.exit_code is None else row.exit_code for row in results.rows.values()]
        self.task.sweep = results
        if not results.is_search:  # a search comes back with further jobs, and reports on all of them at its end
            self.task.report()


def _run(jobs: "Sequence[Job]", done: Sequence[int], pool: "JobPool", merged: "MergedJobs") -> None:
    """Run the jobs, but those that an earlier start has `done`, and those for which another's run stands."""
    results, again = merged.results, list[int]()

    def end(ended: "EndedJob") -> None:
        results.end(ended)
        again.extend(merged.settle(ended.job.number))

    waits = set(merged.into)
    for number in done:
        if number not in waits:
            results.skip_done(number)
            merged.settle(number)
    pool.run([job for job in jobs if job.number not in results.ended | waits], end)
    while again:
        next_ones = [job for job in jobs if job.number in again]
        again.clear()
        pool.run(next_ones, end)


def _returned(overrides: Sequence[str], row: "JobRow", results: "SweepResults") -> JobReturn:
    figure = results.figure(row.job)
    return JobReturn(list(overrides), working_dir=str(row.directory), status=JobStatus.COMPLETED, _return_value=figure)


def _flags(cfg: DictConfig) -> list[str]:
    """The flags by which a job finds the configuration files that this sweep was started with."""
    sources = {source.provider: source.path for source in cfg.hydra.runtime.config_sources}
    flags = ["--config-name", str(cfg.hydra.job.config_name), "--config-path", sources["main"]]
    return flags + (["--config-dir", sources["command-line"]] if "command-line" in sources else [])


SEARCH = "hparams_search="
"""The choice of a search for settings, which its jobs do not make again: each is one run."""
SWEEP_SETTINGS = ("hydra.mode", "hydra.run.", "hydra.sweep", "hydra.launcher", "hydra/sweeper", "hydra/launcher")
"""Prefixes of overrides that are about the sweep; `hydra.sweep` covers hydra.sweeper too."""


def _hydra_overrides(cfg: DictConfig, directory: Path) -> list[str]:
    """Hydra's settings for a job: those typed that are not about the sweep, and the job's number and directory."""
    from winnow.launch.resume import quoted

    typed = [line for line in cfg.hydra.overrides.hydra if not line.lstrip("+~").startswith(SWEEP_SETTINGS)]
    return [
        *typed,
        f"hydra.run.dir={quoted(directory)}",
        f"hydra.sweep.dir={quoted(cfg.hydra.sweep.dir)}",
        f"hydra.sweep.subdir={quoted(cfg.hydra.sweep.subdir)}",
        f"hydra.job.num={cfg.hydra.job.num}",
        f"hydra.job.id={quoted(cfg.hydra.job.id)}",
    ]
