"""Models whose weights are sharded over ranks (FSDP2): made without memory, sharded, and filled shard by shard.

Each block of a model is a unit of its own, which is gathered while it computes and freed afterwards; all other weights
(embedding, last norm, output layer) belong to the unit of the module around the model, a `Policy` or a `Critic`. A
module with such units has to be called by all ranks together.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.fsdp import register_fsdp_forward_method as as_forward
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from winnow.distributed import device_of, local, own_rows, whole_tensor
from winnow.errors import ConfigError
from winnow.models.weights import Weights

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Sharding:
    """The ranks that share a model, the type in which gathered weights compute, and whether shards rest in main memory.

    `products` is None where weights compute in their own type.
    """

    mesh: DeviceMesh
    device: torch.device
    products: torch.dtype | None = None
    offload: bool = False


def without_memory(module: M, dtype: torch.dtype | None = None) -> M:
    """A copy of `module` whose parameters have shapes and no memory (meta tensors), of `dtype`; buffers are copied."""
    memo: dict[int, nn.Parameter] = {
        id(p): nn.Parameter(p.detach().to("meta", dtype), p.requires_grad) for p in module.parameters()
    }
    return copy.deepcopy(module, memo)  # pyright: ignore[reportArgumentType]


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks of the models in `module`, in order of depth."""
    return [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]


def shard(module: nn.Module, sharding: Sharding, methods: tuple[str, ...] = ()) -> None:
    """Shard `module`, whose parameters are meta tensors; `methods` of it are called like its forward.

    Raises:
        ConfigError: it has no blocks that transformers marks as such.
    """
    blocks = blocks_of(module)
    if not blocks:
        raise ConfigError(
            f"hardware.strategy=fsdp: {type(module).__name__} has no blocks to shard by; type hardware.strategy=ddp"
        )
    lower = sharding.products
    policy = MixedPrecisionPolicy(param_dtype=lower, reduce_dtype=None if lower is None else torch.float32)
    offload = CPUOffloadPolicy() if sharding.offload else OffloadPolicy()
    for block in blocks:
        fully_shard(block, mesh=sharding.mesh, mp_policy=policy, offload_policy=offload)
    # By default the outermost unit stays gathered after a forward without gradients, with other parameters.
    fully_shard(module, mesh=sharding.mesh, mp_policy=policy, offload_policy=offload, reshard_after_forward=True)
    for method in methods:
        as_forward(module, method)


def fill(module: nn.Module, sharding: Sharding, weights: Weights, source_of: Callable[[str], str | None]) -> None:
    """Give a sharded module without memory its shards, each read from `weights` by itself, and its device to buffers.

    `source_of` gives the name in `weights` of the module's parameter; a parameter without one is zero.
    """
    rest = torch.device("cpu") if sharding.offload else sharding.device
    with torch.no_grad():
        for part in module.modules():
            for name, buffer in part.named_buffers(recurse=False):
                part.register_buffer(name, buffer.to(sharding.device), name not in part._non_persistent_buffers_set)
        made: dict[nn.Parameter, nn.Parameter] = {}
        for name, parameter in module.named_parameters():
            source = source_of(name)
            shard = torch.empty_like(local(parameter), device=rest)
            if source is None:
                shard.zero_()
            elif shard.numel():
                shard.copy_(own_rows(parameter, partial(weights.rows, source)))
            made[parameter] = nn.Parameter(_with_shard(parameter, shard), parameter.requires_grad)
        replace_parameters(module, made)


def replace_parameters(module: nn.Module, made: Mapping[nn.Parameter, nn.Parameter]) -> None:
    """Put the parameters in the places of those that they replace, tied ones in all of their places."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, made[parameter])


def _with_shard(parameter: nn.Parameter, shard: Tensor) -> Tensor:
    assert isinstance(parameter, DTensor)
    # `DTensor.from_local` would move a shard that rests in main memory to the ranks' devices.
    return DTensor(shard, parameter._spec, requires_grad=False)  # pyright: ignore[reportCallIssue]


def is_sharded(module: nn.Module) -> bool:
    """Whether the weights of `module` are sharded."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def is_without_memory(module: nn.Module) -> bool:
    """Whether `module` still waits for its weights."""
    return any(parameter.is_meta for parameter in module.parameters())


def plain_copy(model: PreTrainedModel, bare: PreTrainedModel) -> PreTrainedModel:
    """A whole model on this rank with the present weights of the sharded `model`, gathered one by one.

    `bare` is the model as it was before it was sharded, without memory. All ranks call this together.
    """
    found = without_memory(bare)
    take_whole(found, model, device_of(model))
    return found.eval()


def take_whole(into: nn.Module, model: nn.Module, device: torch.device, keeps: bool = True) -> None:
    """Give the module `into`, which has no memory, the whole weights and the buffers of a sharded `model` of its kind.

    The weights are gathered one after the other, in the type that they have in `into`, by all ranks together; one that
    does not keep them only takes part.
    """
    sources = dict(model.named_parameters())
    made: dict[nn.Parameter, nn.Parameter] = {}
    with torch.no_grad():
        for name, parameter in into.named_parameters():
            whole = whole_tensor(sources[name].detach().to(parameter.dtype))
            made[parameter] = nn.Parameter(whole.to(device), parameter.requires_grad) if keeps else parameter
        replace_parameters(into, made)
        for part, own in zip(into.modules(), model.modules(), strict=True):
            for name, buffer in own.named_buffers(recurse=False):
                part.register_buffer(name, buffer.to(device), name not in own._non_persistent_buffers_set)
