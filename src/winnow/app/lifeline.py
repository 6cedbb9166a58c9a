"""A job does not outlive its sweep: else the same sweep started again would run beside it, in the same directory."""

import ctypes
import os
import signal
import sys

SWEEP = "WINNOW_SWEEP"
"""Environment variable: the process id of the sweep that a job belongs to."""
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent dies."""


def end_with_the_sweep() -> None:
    """Of a sweep's job: get SIGTERM, and so save and end, when the sweep is killed. Linux only; elsewhere nothing."""
    sweep = os.environ.pop(SWEEP, None)  # what the job itself starts is no job of the sweep
    if sweep is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sweep):  # it died before it could be asked for
        os.kill(os.getpid(), signal.SIGTERM)
