"""Processes of a sweep: a pool that runs its jobs, and the end of a job whose sweep is killed.

A job that outlived its sweep would run in the same directory as the same sweep started again.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from winnow import signals
from winnow.errors import CONFIG, DISK
from winnow.files import disk_errno
from winnow.signals import FIRST_RANK

PARENT_VARIABLE = "WINNOW_SWEEP"
"""Environment variable with the process id of the sweep that a job belongs to."""
PR_SET_PDEATHSIG = 1
"""Option of prctl(2) that chooses the signal a process receives when its parent dies."""


def exit_when_parent_dies() -> None:
    """Ask the kernel for a signal when the process that has started this one is killed.

    A job of a sweep gets SIGTERM, on which it saves and ends. A further rank of a run gets SIGKILL: without the first
    rank it can save nothing, and would wait. Only Linux has such a request; elsewhere this does nothing.
    """
    # Processes that this one starts itself are not the parent's.
    sweep, first = os.environ.pop(PARENT_VARIABLE, None), os.environ.pop(FIRST_RANK, None)
    if sys.platform != "linux":
        return
    for parent, number in ((sweep, signal.SIGTERM), (first, signal.SIGKILL)):
        if parent is not None:
            end_with_parent(number)
            if os.getppid() != int(parent):  # it died before the line above
                os.kill(os.getpid(), number)


def end_with_parent(number: signal.Signals) -> None:
    """Ask the kernel for a signal when the parent of this process dies; nothing where it is not Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


@dataclass(frozen=True)
class Job:
    """A command whose output goes to `directory/output.log`; `again` is the one that resumes its run.

    `gpus` is the number of GPUs that it is to have.
    """

    number: int
    command: tuple[str, ...]
    directory: Path
    again: tuple[str, ...] = ()
    gpus: int = 0

    @property
    def log(self) -> Path:
        return self.directory / "output.log"


@dataclass(frozen=True)
class EndedJob:
    """The end of a job. The code is None for a job that was never started, and 128 + n for one that signal n killed."""

    job: Job
    exit_code: int | None
    seconds: float


class Started(Protocol):
    """A job that is under way."""

    def poll(self) -> int | None:
        """The exit code, 128 + n after signal n; None until it has ended."""
        ...

    def send_signal(self, number: int) -> None:
        """Ask the job to end."""
        ...

    def kill(self) -> None:
        """End the job at once, with what it has started."""
        ...


@dataclass(frozen=True)
class ProcessGroup:
    """A job as a process of this machine, the first of its group."""

    process: "subprocess.Popen[bytes]"

    def poll(self) -> int | None:
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class Gpus:
    """GPUs by their names in CUDA_VISIBLE_DEVICES, in order, with the number of jobs on each."""

    names: Sequence[str]
    jobs: Counter[str] = field(default_factory=Counter)

    def take(self, count: int) -> tuple[str, ...]:
        """The `count` GPUs that have the fewest jobs, of equal ones the first; all, if there are not so many."""
        least = sorted(self.names, key=lambda name: self.jobs[name])[:count]
        self.jobs.update(least)
        return tuple(name for name in self.names if name in least)

    def give_back(self, names: Sequence[str]) -> None:
        self.jobs.subtract(names)

    def told(self, jobs: Sequence[Job], at_once: int) -> str:
        """The GPUs of a job in words, such as `, 2 of 8 GPUs each`; nothing where jobs are on a CPU."""
        most = max((job.gpus for job in jobs), default=0)
        if most == 0 or not self.names:
            return ""
        shared = ", which jobs share" if most * min(at_once, len(jobs)) > len(self.names) else ""
        return f", {most} of {len(self.names)} GPUs each{shared}"


@dataclass(frozen=True)
class RunningJob:
    """A job that is under way, its GPUs, and the time at which it began."""

    job: Job
    started: Started
    gpus: tuple[str, ...]
    began: float


@dataclass
class JobPool:
    """Pool that runs `at_once` jobs at a time, each with `threads` threads and on GPUs of its own.

    Only where `at_once` jobs need more GPUs than there are, they share them, as evenly as can be.

    While every job that has ended did so with exit code 2, no further one is started: what is wrong with the
    configuration of all is found once. If the running ones end in that way too, the others are not started.

    The first signal of `errors.EXIT_CODE_OF_SIGNAL` is forwarded to the jobs; the pool then waits for them
    and starts no further ones. A second signal kills them.
    """

    at_once: int
    threads: int
    inherited: tuple[int, ...] = ()  # file descriptors that jobs keep open, and with them the locks on these files
    received: list[int] = field(default_factory=list)  # numbers of the signals received
    gpus: Gpus = field(default_factory=lambda: Gpus(()))
    running: dict[int, RunningJob] = field(default_factory=dict)
    codes: set[int] = field(default_factory=set)  # exit codes of the jobs that have ended

    @property
    def is_held(self) -> bool:
        """Whether all jobs that have ended were refused for their configuration."""
        return self.codes == {CONFIG}

    def run(self, jobs: Sequence[Job], on_end: Callable[[EndedJob], None]) -> None:
        """Run the jobs and return when every one has ended; call `on_end` for each, in the order in which they end."""
        waiting = deque(jobs)
        with signals.handled_by(self._forward):
            while waiting or self.running:
                if self.received or (self.is_held and not self.running):
                    while waiting:
                        on_end(EndedJob(waiting.popleft(), None, 0.0))
                elif waiting and not self.is_held and len(self.running) < self.at_once:
                    job = waiting.popleft()
                    try:
                        self._start(job)
                    except OSError as error:
                        if disk_errno(error) is None:
                            raise
                        self.codes.add(DISK)
                        on_end(EndedJob(job, DISK, 0.0))  # its folder or its log cannot be made
                    continue
                self._reap(on_end)
                time.sleep(0.05)

    def _start(self, job: Job) -> None:
        gpus = self.gpus.take(job.gpus)
        try:
            process = self._process(job, gpus)
        except OSError:
            self.gpus.give_back(gpus)
            raise
        self.running[job.number] = RunningJob(job, process, gpus, time.monotonic())
        if self.received:  # the signal came while the process was being made, so that it was not forwarded to it
            process.send_signal(self.received[0])

    def _process(self, job: Job, gpus: Sequence[str]) -> Started:
        job.directory.mkdir(parents=True, exist_ok=True)
        variables = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | variables | {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())},
                pass_fds=self.inherited,
                process_group=0,  # else the terminal would send Ctrl-C to the jobs too, beside the forwarded signal
            )
        return ProcessGroup(process)

    def _reap(self, on_end: Callable[[EndedJob], None]) -> None:
        for number, running in list(self.running.items()):
            code = running.started.poll()
            if code is not None:
                del self.running[number]
                self.gpus.give_back(running.gpus)
                self.codes.add(code)
                on_end(EndedJob(running.job, code, time.monotonic() - running.began))

    def _forward(self, number: int) -> None:
        self.received.append(number)
        for running in list(self.running.values()):
            if len(self.received) == 1:
                running.started.send_signal(number)
            else:
                running.started.kill()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
