"""A job does not outlive its sweep: else the same sweep started again would run beside it, in the same directory."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

PARENT_VARIABLE = "WINNOW_SWEEP"
"""Environment variable: the process id of the sweep that a job belongs to."""
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent dies."""


def exit_when_parent_dies() -> None:
    """Of a sweep's job: get SIGTERM, and so save and end, when the sweep is killed. Linux only; elsewhere nothing."""
    sweep = os.environ.pop(PARENT_VARIABLE, None)  # what the job itself starts is no job of the sweep
    if sweep is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sweep):  # it died before it could be asked for
        os.kill(os.getpid(), signal.SIGTERM)


FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Job:
    """A command whose output goes to `directory/output.log`."""

    number: int
    command: tuple[str, ...]
    directory: Path

    @property
    def log(self) -> Path:
        return self.directory / "output.log"


@dataclass(frozen=True)
class EndedJob:
    """How a job ended; of a job that was never started the code is None. Killed by signal n, the code is 128 + n."""

    job: Job
    exit_code: int | None
    seconds: float


@dataclass
class JobPool:
    """Runs jobs `at_once`, each with `threads` threads.

    The first SIGINT, SIGTERM or SIGUSR1 goes on to the jobs, which are waited for while no further one starts; a
    second one kills them.
    """

    at_once: int
    threads: int
    holds: tuple[int, ...] = ()  # file descriptors that jobs keep open, and with them their locks
    received: list[int] = field(default_factory=list)  # signals
    running: dict[int, tuple[Job, subprocess.Popen[bytes], float]] = field(default_factory=dict)

    def run(self, jobs: Sequence[Job], on_end: Callable[[EndedJob], None]) -> None:
        """Return when every job has ended; `on_end` is called for each, in the order in which they end."""
        waiting = deque(jobs)
        before = {number: signal.signal(number, self._forward) for number in FORWARDED}
        try:
            while waiting or self.running:
                if self.received:
                    while waiting:
                        on_end(EndedJob(waiting.popleft(), None, 0.0))
                elif waiting and len(self.running) < self.at_once:
                    self._start(waiting.popleft())
                    continue
                self._reap(on_end)
                time.sleep(0.05)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, job: Job) -> None:
        job.directory.mkdir(parents=True, exist_ok=True)
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | threads | {"PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())},
                pass_fds=self.holds,
                process_group=0,  # a Ctrl-C reaches the jobs once, through us
            )
        self.running[job.number] = (job, process, time.monotonic())
        if self.received:  # while the process was being made
            process.send_signal(self.received[0])

    def _reap(self, on_end: Callable[[EndedJob], None]) -> None:
        for number, (job, process, began) in list(self.running.items()):
            code = process.poll()
            if code is not None:
                del self.running[number]
                on_end(EndedJob(job, code if code >= 0 else 128 - code, time.monotonic() - began))

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        for _, process, _ in list(self.running.values()):
            if len(self.received) == 1:
                process.send_signal(number)
            elif process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def cores() -> int:
    return len(os.sched_getaffinity(0))
