"""Ranks of a distributed run: sharding a list over them, and gathering their parts. Alone, rank 0 of 1."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def rank() -> int:
    """This process's rank, 0 where torch.distributed is not initialised."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of ranks, 1 where torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_gather(value: T) -> list[T]:
    """Every rank's `value`, by rank. Values are pickled; every rank has to call this."""
    gathered = [value] * world_size()
    if len(gathered) > 1:
        dist.all_gather_object(gathered, value)
    return gathered


def summed(numbers: Sequence[float]) -> list[float]:
    """The sum of each number over all ranks; every rank has to call this, with equally many."""
    if world_size() == 1:
        return list(numbers)
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    totals = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()


def strided_shard(items: Sequence[T]) -> list[T]:
    """Every world-size-th item, starting at this rank."""
    return list(items[rank() :: world_size()])


def gather_strided(mine: Sequence[T], count: int) -> list[T]:
    """The inverse of `strided_shard`, on every rank: what was made of all `count` items, in their order."""
    shards = all_gather(list(mine))
    return [shards[i % len(shards)][i // len(shards)] for i in range(count)]


def contiguous_shard(items: Sequence[T]) -> list[T]:
    """This rank's run of consecutive items; sizes differ by at most 1. Neighbours that share work stay on one rank."""
    bounds = [round(r * len(items) / world_size()) for r in (rank(), rank() + 1)]
    return list(items[bounds[0] : bounds[1]])


def gather_contiguous(mine: Sequence[T]) -> list[T]:
    """The inverse of `contiguous_shard`, on every rank."""
    return [item for shard in all_gather(list(mine)) for item in shard]


def require_equal(value: object, what: str) -> None:
    """Refuse to go on where ranks hold different values.

    Each rank reads the data for itself. If a check of a problem timed out on one rank only, the ranks would have
    different problem lists and would combine results that do not belong together.

    Raises:
        RuntimeError: the ranks hold different values.
    """
    values = all_gather(value)
    if any(other != values[0] for other in values):
        raise RuntimeError(f"the ranks disagree about {what}; start again")
