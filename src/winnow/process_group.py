"""This process among those of its run, by the environment, which says so before torch has connected them.

The processes (ranks) of a run are started by the first of them, or all from outside: by torchrun, or by SLURM's srun.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment


@dataclass(frozen=True, slots=True)
class Outside:
    """A launcher that has started all ranks: its name, this process's rank, the number of ranks in all and here."""

    name: str
    rank: int
    ranks: int
    ranks_here: int | None


def launched_from_outside() -> Outside | None:
    """The launcher that has started this process as one of several, or as the only one of torchrun; else None.

    A job of SLURM has such variables in its batch script too, where only srun's are those of a rank.
    """
    of = os.environ
    if "TORCHELASTIC_RUN_ID" in of and {"RANK", "WORLD_SIZE"} <= of.keys():
        return Outside("torchrun", int(of["RANK"]), int(of["WORLD_SIZE"]), _number("LOCAL_WORLD_SIZE"))
    tasks = _number("SLURM_STEP_NUM_TASKS")
    if tasks is not None and tasks > 1 and "SLURM_PROCID" in of:
        nodes = _number("SLURM_STEP_NUM_NODES") or 1
        return Outside("srun", int(of["SLURM_PROCID"]), tasks, tasks // nodes if tasks % nodes == 0 else None)
    return None


def local_rank() -> int:
    """This process's place among those of its machine, which is also the index of its GPU."""
    outside = launched_from_outside()
    of_srun = outside is not None and outside.name == "srun"
    return _number("SLURM_LOCALID" if of_srun else "LOCAL_RANK") or 0


def visible_gpus(environment: Mapping[str, str], present: int) -> list[str]:
    """Names of the GPUs that this process sees, in their order, as CUDA_VISIBLE_DEVICES has them.

    Without that variable they are the numbers of the first `present` ones.
    """
    named = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named or [str(gpu) for gpu in range(present)]


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None


_is_guest = ContextVar("is_guest", default=False)


@contextmanager
def as_guest() -> Iterator[None]:
    """Context in which this process is another program's, such as a notebook's, and cannot start further ranks."""
    token = _is_guest.set(True)
    try:
        yield
    finally:
        _is_guest.reset(token)


def is_guest() -> bool:
    """Whether this process is another program's."""
    return _is_guest.get()


def is_first_rank() -> bool:
    """Whether this is the first rank of its run, which writes all of its files."""
    outside = launched_from_outside()
    if outside is not None:
        return outside.rank == 0
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def slurm_environment() -> "SLURMEnvironment":
    """Lightning's view of ranks that srun has started, which leaves requeuing to the run.

    Lightning takes the number of tasks only from `--ntasks-per-node`; how many there are has been checked already.
    """
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    outside = launched_from_outside()
    if outside is not None and outside.ranks_here is not None:
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(outside.ranks_here))
    return SLURMEnvironment(auto_requeue=False)
