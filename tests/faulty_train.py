"""train.py with harm done to one rank of the run at an exact moment; `FAULT` says to which, when, and what."""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping

from faults.forked_run import Calls, arm

COLLECT = "winnow.experience.collect:Collector.collect"
MOMENTS: Mapping[str, Calls] = {
    "sampling": [(COLLECT, 3), ("winnow.engines.torch_engine:Generation._step", 3)],
    "verifying": [(COLLECT, 3), ("winnow.rewards.verifier:Verifier.judge", 1)],
    "scoring": [(COLLECT, 3), ("winnow.experience.scoring:score_sequences", 1)],
    "updating": [(COLLECT, 3), ("winnow.training.modules:PolicyGradientModule.training_step", 1)],
    "saving shards": [("winnow.training.sharded_state:save", 2)],
    "writing a file": [("torch.distributed.checkpoint.filesystem:FileSystemWriter.write_data", 2)],
    "writing the index": [("torch.distributed.checkpoint.filesystem:FileSystemWriter.finish", 2)],
    "writing the rest": [("winnow.training.sharded_state:flush_to_disk", 2)],
}


def hold_the_lock() -> None:
    """Sleep for ever with Python's lock held, as a regular expression may."""
    import ctypes

    ctypes.PyDLL(None).sleep(1_000_000)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


HARMS: Mapping[str, Callable[[], object]] = {
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stall": lambda: time.sleep(1_000_000),
    "full disk": fill_the_disk,
    "stall with the lock": hold_the_lock,
}

if __name__ == "__main__":
    from winnow.launch import programs

    rank, moment, harm = os.environ["FAULT"].split(",")
    if os.environ.get("LOCAL_RANK", "0") == rank:
        arm(MOMENTS[moment], HARMS[harm])
    programs.training().main()
