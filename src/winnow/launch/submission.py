"""Jobs of a sweep that submitit runs: on a cluster under SLURM, or on this machine.

The call that is submitted starts the job's command line, as a job of our own launcher has one, and ends with its exit
code. On submitit's signal (SIGUSR2, before a preemption or the end of the job's time) the run saves and ends with code
75, and submitit queues the call again; that then resumes the run.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from winnow.errors import BUG, PREEMPTED, ConfigError
from winnow.launch.jobs import PARENT_VARIABLE, EndedJob, Job, JobPool, Started, cores, end_with_parent
from winnow.launch.run_directory import CHECKPOINTS, can_begin_again, has_trace, holds_run, was_cut_short

if TYPE_CHECKING:
    from submitit import AutoExecutor
    from submitit import Job as SubmittedJob
    from submitit.helpers import DelayedSubmission

GRACE_SECONDS = 90.0
"""Time for which a job of SLURM whose run a SIGTERM has ended waits for the end of the preemption that it announces."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that end the run; submitit keeps SIGUSR2 to itself."""


def require_submitit(launcher: DictConfig) -> None:
    """Check that the sweep's launcher can submit its jobs, if that is what it does.

    Raises:
        ConfigError: submitit is not installed, or there is no SLURM here, or a setting is not a number.
    """
    cluster = launcher.get("cluster")
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError(
            f"hydra/launcher=submitit_{cluster}: needs submitit; type pip install 'winnow-rl[slurm]', or leave it out"
        )
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ConfigError(
            "hydra/launcher=submitit_slurm: this machine has no sbatch and srun; start the sweep where SLURM is, or "
            "type hydra/launcher=submitit_local to run its jobs here"
        )
    for key in ("timeout_min", "max_num_timeout", "signal_delay_s", "nodes", "tasks_per_node"):
        value, least = launcher.get(key, 1), int(key != "max_num_timeout")
        if type(value) is not int or value < least:
            raise ConfigError(f"hydra.launcher.{key}={value}: must be a whole number, {least} or more")


@dataclass
class Submission:
    """The call of a job of submitit: the run, in a process of its own, begun or resumed.

    `sweep` is the process id of a sweep on this machine, without which its jobs end; None where they outlive it.
    `visible` are the GPUs, which submitit would hide here; None leaves them as SLURM sets them.
    """

    job: Job
    program: str
    trace: str
    threads: int | None
    sweep: int | None
    visible: str | None
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)
    _is_told: bool = field(default=False, init=False, repr=False)
    _grace: float = field(default=0.0, init=False, repr=False)

    def __call__(self) -> int:
        """Run the job to its end, and return its exit code."""
        from submitit.core.utils import UncompletedJobError

        for number in FORWARDED:
            signal.signal(number, self._forward)
        if self.sweep is not None:
            end_with_parent(signal.SIGKILL)
        with ExitStack() as stack:
            process = self._process = self._start(stack)
            try:
                while process.poll() is None:
                    if self.sweep is not None and not Path(f"/proc/{self.sweep}").is_dir():
                        self.sweep = None
                        self._tell()
                    time.sleep(0.1)
                code = _exit_code(process.returncode)
                time.sleep(self._grace if code == PREEMPTED else 0.0)
            except UncompletedJobError as error:  # raised by submitit's handler
                print(error, flush=True)
                code = self._ended()
        return code

    def checkpoint(self) -> "DelayedSubmission | None":
        """The call that submitit is to queue again after its signal; None if the run has ended otherwise meanwhile."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._tell()
            if self._ended() != PREEMPTED:
                return None
        return DelayedSubmission(replace(self))

    def _start(self, stack: ExitStack) -> "subprocess.Popen[bytes]":
        is_first = os.environ.get("SLURM_PROCID", "0") == "0"
        output = None
        if is_first:  # what other tasks say goes to submitit's files
            self.job.directory.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(self.job.log.open("ab"))
        threads = str(self.threads or cores())
        variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        if self.visible is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.visible
        environment = os.environ | variables | {PARENT_VARIABLE: str(os.getpid())}
        if self.sweep is not None and self.visible is None:
            environment.pop("CUDA_VISIBLE_DEVICES", None)
        command = self.job.again if self._is_resumable() else self.job.command
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, process_group=0
        )

    def _is_resumable(self) -> bool:
        directory = self.job.directory
        return holds_run(directory) and (
            has_trace(directory, self.trace) or self.trace != CHECKPOINTS or can_begin_again(directory, self.program)
        )

    def _forward(self, number: int, frame: object) -> None:
        """End the run. SLURM announces a preemption by SIGTERM, and then queues the job again by itself."""
        self._grace = GRACE_SECONDS if self.sweep is None and number == signal.SIGTERM else 0.0
        self._tell()

    def _tell(self) -> None:
        """Have the run save and end. It is told once: a second signal would end it at once."""
        if self._process is not None and not self._is_told:
            self._is_told = True
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)

    def _ended(self) -> int:
        """The exit code of the run once it has ended, past the process object, in whose midst the signal has come."""
        assert self._process is not None
        if self._process.returncode is not None:
            return _exit_code(self._process.returncode)
        status = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        assert status is not None
        return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def _exit_code(code: int) -> int:
    return code if code >= 0 else 128 - code


@dataclass(frozen=True)
class Queued:
    """A job that was submitted, as the pool looks at it."""

    job: Job
    submitted: "SubmittedJob[int]"
    is_local: bool

    def poll(self) -> int | None:
        """The exit code of the run; None until the job is over, however often it is queued again."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if not self.submitted.done():
            return None
        try:
            return int(self.submitted.results()[0])
        except (UncompletedJobError, FailedJobError) as error:
            with suppress(OSError), self.job.log.open("a") as log:
                log.write(f"submitit: {' '.join(str(error).split())}\n")
            stopped = has_trace(self.job.directory, CHECKPOINTS) and was_cut_short(self.job.directory)
            return PREEMPTED if stopped else BUG

    def send_signal(self, number: int) -> None:
        """End the job, which saves first; one that waits in the queue leaves it."""
        if self.is_local:
            with suppress(ProcessLookupError):
                os.kill(int(self.submitted.job_id), signal.SIGTERM)  # that of the process that watches the job
            return
        self._scancel("--state=PENDING")
        self._scancel("--signal=USR1")

    def kill(self) -> None:
        if self.is_local:
            with suppress(ProcessLookupError):
                os.kill(int(self.submitted.job_id), signal.SIGKILL)
        else:
            self._scancel()

    def _scancel(self, *words: str) -> None:
        subprocess.run(["scancel", *words, self.submitted.job_id], check=False, capture_output=True)


@dataclass
class SubmissionPool(JobPool):
    """Pool whose jobs submitit runs. Those of SLURM are one array, which limits how many run at a time."""

    executor: "AutoExecutor | None" = None
    template: Submission | None = None
    queued: dict[int, Queued] = field(default_factory=dict)

    def run(self, jobs: Sequence[Job], on_end: Callable[[EndedJob], None]) -> None:
        assert self.executor is not None
        assert self.template is not None
        if jobs and not self._is_local:
            self.at_once = len(jobs)
            with self.executor.batch():
                submitted = [self.executor.submit(replace(self.template, job=job)) for job in jobs]
            self.queued = {job.number: Queued(job, each, False) for job, each in zip(jobs, submitted, strict=True)}
        super().run(jobs, on_end)

    @property
    def _is_local(self) -> bool:
        return self.template is not None and self.template.sweep is not None

    def _process(self, job: Job, gpus: Sequence[str]) -> Started:
        if job.number in self.queued:
            return self.queued[job.number]
        assert self.executor is not None
        assert self.template is not None
        # Ctrl-C reaches all processes of the terminal; that which watches the job would kill it a second later.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        visible = ",".join(gpus) if gpus else self.template.visible
        try:
            return Queued(job, self.executor.submit(replace(self.template, job=job, visible=visible)), True)
        finally:
            signal.signal(signal.SIGINT, before)
