"""Processes that share one iteration."""

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def strided_shard(items: Sequence[T]) -> list[T]:
    """Every world-size-th item, from this rank on."""
    return list(items[rank() :: world_size()])


def gather_strided(mine: Sequence[T], count: int) -> list[T]:
    """The inverse of `share_of` on every rank: what was made of all `count` items, in their order."""
    if world_size() == 1:
        return list(mine)
    shares: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(shares, list(mine))
    return [shares[i % world_size()][i // world_size()] for i in range(count)]


def contiguous_shard(items: Sequence[T]) -> list[T]:
    """Items that stand together, sizes equal to ±1: what is alike in neighbours is then done once."""
    bounds = [round(r * len(items) / world_size()) for r in (rank(), rank() + 1)]
    return list(items[bounds[0] : bounds[1]])


def gather_contiguous(mine: Sequence[T]) -> list[T]:
    """The inverse of `run_of` on every rank."""
    if world_size() == 1:
        return list(mine)
    runs: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(runs, list(mine))
    return [item for run in runs for item in run]


def require_equal(value: object, what: str) -> None:
    """Each rank reads its data for itself; where a check of it timed out on one of them, they would mix up what they share.

    Raises:
        RuntimeError: the ranks hold different values.
    """
    if world_size() == 1:
        return
    found: list[object] = [None] * world_size()
    dist.all_gather_object(found, value)
    if any(other != found[0] for other in found):
        raise RuntimeError(f"the ranks disagree about {what}; start again")
