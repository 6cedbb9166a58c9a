"""Ranks of a distributed run: sharding a list over them, and gathering their parts. Alone, rank 0 of 1."""

import io
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from signal import Signals
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import distributed_c10d
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from winnow import signals
from winnow.errors import LostRank, Stopped
from winnow.process_group import launched_from_outside

T = TypeVar("T")


def rank() -> int:
    """This process's rank, 0 where torch.distributed is not initialised."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of ranks, 1 where torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def ranks_here() -> int:
    """The number of ranks on this machine."""
    outside = launched_from_outside()
    return world_size() if outside is None or outside.ranks_here is None else outside.ranks_here


_timeout: timedelta | None = None


def wait_at_most(timeout: timedelta | None = None) -> None:
    """Have ranks wait for each other for `timeout` at most, in all groups that there are: those that are made without
    all ranks have half an hour. Without a `timeout`, the last one holds for the groups that were made since."""
    global _timeout
    _timeout = found = timeout or _timeout
    if found is None:
        return
    for group in [*distributed_c10d._world.pg_map]:
        distributed_c10d._set_pg_timeout(found, group)


@dataclass(frozen=True, slots=True)
class _Leaves:
    """Sent in place of a value by a rank that a signal has made leave its work."""

    signal: Signals


_lost: str | None = None


def lose(line: str | None) -> None:
    """Have this rank gather nothing more, because another one has ended; `line` says which, and None takes it back.
    Any thread may call."""
    global _lost
    _lost = line


class _AllLeave(Exception):
    """All ranks know that they leave."""


def all_gather(value: T) -> list[T]:
    """Every rank's `value`, by rank. Values are pickled; every rank has to call this.

    Raises:
        _AllLeave: a rank has left the work that `leave_together` is about, which catches it.
        LostRank: a rank has ended, and is not waited for.
    """
    if _lost is not None and world_size() > 1:
        raise LostRank(_lost)
    gathered: list[T | _Leaves] = [value]
    if world_size() > 1:
        sent: list[bytes] = [b""] * world_size()
        dist.all_gather_object(sent, packed(value))
        gathered = [pickle.loads(each) for each in sent]
    if (leaving := next((each for each in gathered if isinstance(each, _Leaves)), None)) is not None:
        signals.note(leaving.signal)
        raise _AllLeave
    return gathered  # pyright: ignore[reportReturnType]


def packed(value: object) -> bytes:
    """`value` pickled as ranks send it. A tensor takes its own bytes and some 60 more; torch pickles it with 400 more,
    and a view with all of the tensor behind it."""
    buffer = io.BytesIO()
    _Packer(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class _Packer(pickle.Pickler):
    def reducer_override(self, obj: object) -> object:
        if type(obj) is not Tensor or obj.device.type != "cpu" or obj.layout != torch.strided or obj.requires_grad:
            return NotImplemented
        content = obj.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return _tensor_of, (content, obj.dtype, *obj.shape)


def _tensor_of(content: bytes, dtype: torch.dtype, *shape: int) -> Tensor:
    found = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
    return found.view(shape)


def leave_together(work: Callable[[], T]) -> T:
    """The result of `work`, which all ranks do together, gathering by `all_gather` alone.

    A rank that leaves it still takes part in the gathering that the others come to next, and tells them.

    Raises:
        Stopped: on every rank, if a signal has made one of them leave.
    """
    try:
        result = work()
        all_gather(None)  # another rank may have left after the last gathering of its work
    except _AllLeave:
        signals.check()
        raise
    except Stopped:
        if (number := signals.received()) is not None and world_size() > 1:
            with suppress(_AllLeave):
                all_gather(_Leaves(number))
        raise
    return result


def _device() -> torch.device:
    """The device of the tensors that ranks exchange."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def summed(numbers: Sequence[float]) -> list[float]:
    """The sum of each number over all ranks; every rank has to call this, with equally many."""
    if world_size() == 1:
        return list(numbers)
    totals = torch.tensor(numbers, dtype=torch.float64, device=_device())
    dist.all_reduce(totals)
    return totals.tolist()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor: all of it, if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all ranks, which have to call this together if it is sharded.

    It is on the device on which ranks share the model, also where its shards rest in main memory.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    device = tensor.device_mesh.device_type  # NCCL gathers nothing from main memory
    moved = tensor if tensor.to_local().device.type == device else tensor.to(device)
    assert isinstance(moved, DTensor)
    return moved.full_tensor()


def device_of(module: nn.Module) -> torch.device:
    """The device on which a module computes; its shards may rest elsewhere."""
    parameter = next(module.parameters())
    return torch.device(parameter.device_mesh.device_type) if isinstance(parameter, DTensor) else parameter.device


def norm(gradients: Sequence[Tensor]) -> Tensor:
    """The 2-norm of gradients as one vector. Of sharded ones it is summed over ranks, in float64, so that it does not
    depend on how many share them; all ranks then have to call this together."""
    if not any(isinstance(gradient, DTensor) for gradient in gradients):
        return nn.utils.get_total_norm(gradients)
    parts = [torch.linalg.vector_norm(local(g), dtype=torch.float64) for g in gradients]
    total = torch.stack(parts).square().sum().to(_device())
    dist.all_reduce(total)
    return total.sqrt().to(local(gradients[0]).dtype).to(local(gradients[0]).device)


def every_nth(tensors: Sequence[Tensor], spacings: Sequence[int]) -> list[Tensor]:
    """For each tensor every so many-th of its numbers in order, whether it is sharded (along its first axis) or not.

    If one is, all ranks have to call this together, and get the numbers of all.
    """
    if not any(isinstance(tensor, DTensor) for tensor in tensors):
        return [tensor.flatten()[::n] for tensor, n in zip(tensors, spacings, strict=True)]
    found = []
    for tensor, n in zip(tensors, spacings, strict=True):
        own = local(tensor)
        first = _rows_before(tensor) * (tensor.numel() // max(1, len(tensor)))
        numbers = torch.zeros(-(-tensor.numel() // n), dtype=torch.float64, device=own.device)
        flat = own.flatten()[-first % n :: n]
        numbers[-(-first // n) : -(-first // n) + len(flat)] = flat.double()
        found.append(numbers)
    everything = torch.cat(found).to(_device())
    dist.all_reduce(everything)
    return list(everything.split([len(numbers) for numbers in found]))


def own_rows(tensor: Tensor, rows: Callable[[int, int], Tensor]) -> Tensor:
    """The rows `first` … `end` − 1, as `rows` gives them, that this rank holds of a sharded `tensor`; else all."""
    first = _rows_before(tensor)
    return rows(first, first + len(local(tensor)))


def _rows_before(tensor: Tensor) -> int:
    """The number of rows of a sharded tensor that are on the ranks before this one."""
    if not isinstance(tensor, DTensor):
        return 0
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return offset[0]


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
