"""Processes of a run that the first one starts by itself, and that it ends if one of them fails."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.utilities.distributed import _destroy_dist_connection, _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed import DistError

from winnow.errors import BUG, LostRank
from winnow.signals import FIRST_RANK

LOOK_SECONDS, GRACE_SECONDS = 0.5, 20.0
ON_GPUS = "cpu:gloo,cuda:nccl"
"""Back-ends of ranks on GPUs: NCCL for what is on a GPU, and gloo for all else. A rank that waits in gloo in vain gets
an error and can say for whom; NCCL does not return to Python, and ends the process after the same time."""


class Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher, which gives the first rank time to end by itself after another one has failed.

    Lightning's own kills it within five seconds, while it writes its last files. The other ranks end with the first.
    """

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        os.environ[FIRST_RANK] = str(os.getpid())
        try:
            self._call_children_scripts()
        finally:
            del os.environ[FIRST_RANK]
        _set_num_threads_if_needed(self.num_processes)
        over = threading.Event()
        threading.Thread(target=_observe, args=(self.procs, over), daemon=True, name="started ranks").start()
        try:
            return function(*args, **kwargs)
        finally:
            over.set()


class Launched(DDPStrategy):
    """DDP whose processes are started by `Launcher`."""

    def _configure_launcher(self) -> None:
        launch_by_ours(self)

    def _get_process_group_backend(self) -> str:
        return backends(self.root_device)

    def setup_environment(self) -> None:
        with joining():
            super().setup_environment()


def backends(device: torch.device) -> str:
    """The back-ends by which ranks on such devices exchange tensors."""
    return ON_GPUS if device.type == "cuda" else "gloo"


@contextmanager
def joining() -> Iterator[None]:
    """A context in which the ranks find each other.

    Raises:
        LostRank: some have not come within `hardware.timeout`, which is then said.
    """
    try:
        yield
        if dist.get_backend() == ON_GPUS:  # Lightning does so where NCCL is the only one
            atexit.register(_destroy_dist_connection)
    except DistError as error:
        said = str(error).splitlines()[0].rstrip(".")
        line = f"ranks: not all have started ({said}); type a longer hardware.timeout where a start takes its time"
        print(line, file=sys.stderr, flush=True)
        raise LostRank(line) from error


def launch_by_ours(strategy: Any) -> None:
    """Have a strategy start the processes by `Launcher`, unless torchrun or SLURM has started them."""
    if not strategy.cluster_environment.creates_processes_externally:
        strategy._launcher = Launcher(strategy.cluster_environment, strategy.num_processes, strategy.num_nodes)


def _observe(processes: Sequence[Popen[bytes]], over: threading.Event) -> None:
    """End the first rank and all others if one of them has failed and the first does not end by itself."""
    while not (failed := [(rank, p.poll()) for rank, p in enumerate(processes, 1) if p.poll()]):
        if over.wait(LOOK_SECONDS) or all(p.poll() == 0 for p in processes):
            return
    if over.wait(GRACE_SECONDS):
        return
    rank, code = failed[0]
    how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
    print(f"ranks: rank {rank} {how}, and rank 0 still waits; all end", file=sys.stderr, flush=True)
    for process in processes:
        process.kill()
    time.sleep(LOOK_SECONDS)
    os._exit(BUG)
