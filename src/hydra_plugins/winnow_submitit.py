"""Hydra launchers `hydra/launcher=submitit_slurm` and `submitit_local`: the jobs of a sweep, run by submitit."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.winnow_launcher import Processes

if TYPE_CHECKING:
    from winnow.launch.jobs import Gpus, Job
    from winnow.launch.submission import SubmissionPool

SHARED = ("name", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb")
"""Settings that submitit has for every kind of cluster."""


class Submitted(Processes):
    """Runs each job by submitit, and keeps the table and the report as `Processes` does, of which it is one.

    `queue` are settings of submitit's executor; those without a value are left to it.
    """

    def __init__(
        self,
        cluster: str,
        submitit_folder: str,
        jobs: int,
        threads: int | None,
        merge: bool,
        max_num_timeout: int,
        **queue: object,
    ) -> None:
        super().__init__(jobs, threads, merge)
        self.cluster, self.folder, self.max_num_timeout = cluster, submitit_folder, max_num_timeout
        plain = {key: OmegaConf.to_container(v) if isinstance(v, DictConfig) else v for key, v in queue.items()}
        self.queue = {key: value for key, value in plain.items() if value not in (None, {})}

    def _threads(self) -> int | None:
        return super()._threads() if self.cluster == "local" or self.threads else _set_outside()

    def _gpus(self, jobs: "Sequence[Job]") -> "Gpus":
        return super()._gpus(jobs) if self.cluster == "local" else super()._gpus(())

    def _pool(self, threads: int | None, lock: int) -> "SubmissionPool":
        from pathlib import Path

        import submitit

        from winnow.launch.jobs import Job
        from winnow.launch.program import Task
        from winnow.launch.run_directory import CHECKPOINTS
        from winnow.launch.submission import Submission, SubmissionPool

        is_local = self.cluster == "local"
        limit = {f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster, **limit)
        queue = {key if key in SHARED else f"{self.cluster}_{key}": value for key, value in self.queue.items()}
        if not is_local:
            queue["slurm_array_parallelism"] = self.at_once
        executor.update_parameters(**queue)
        program = self.task.program if isinstance(self.task, Task) else None
        template = Submission(
            Job(0, (), Path()),
            program.name if program else "",
            program.trace if program else CHECKPOINTS,
            threads,
            os.getpid() if is_local else None,
            os.environ.get("CUDA_VISIBLE_DEVICES") if is_local and "gpus_per_node" not in self.queue else None,
        )
        return SubmissionPool(self.at_once, threads or 1, executor=executor, template=template)


def _set_outside() -> int | None:
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else None
