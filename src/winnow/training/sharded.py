"""Training under FSDP2: the parts of a run that are sharded, Lightning's strategy for them, and their checkpoints."""

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.precision import Precision as PrecisionPlugin
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer
from transformers import PreTrainedModel

from winnow import distributed
from winnow.models.language_model import LanguageModel, PendingWeights, source_name
from winnow.models.policy import Critic, FrozenCopy, Policy
from winnow.models.precision import new_tensors_in_float64
from winnow.models.sharding import Sharding, fill, is_without_memory, shard, take_whole, without_memory
from winnow.training import sharded_state
from winnow.training.launcher import backends, joining, launch_by_ours


@dataclass(eq=False)
class ShardedParts:
    """The modules of a run that have no memory yet: `make` shards them and fills them with the pending weights.

    The critic and the reference policy begin with the policy's weights; the critic's head begins at zero.
    """

    pending: PendingWeights
    policy: Policy
    critic: Critic | None
    reference: FrozenCopy | None
    products: torch.dtype | None
    offload: bool

    def make(self, mesh: DeviceMesh, device: torch.device) -> None:
        """Shard all parts over the ranks of `mesh`, and read this rank's shards. All ranks call this together."""
        if not is_without_memory(self.policy):
            return
        sharding = Sharding(mesh, device, self.products, self.offload)
        for policy in [self.policy, *([self.reference.copied] if self.reference else [])]:
            shard(policy, sharding, methods=("row_logits",))
            fill(policy, sharding, self.pending.weights, lambda name: source_name(name.removeprefix("model.")))
        if self.critic is not None:
            prefix = self.policy.model.base_model_prefix
            shard(self.critic, sharding, methods=("row_values",))
            fill(self.critic, sharding, self.pending.weights, lambda name: _of_critic(name, prefix))
        self.pending.release()


def _of_critic(name: str, prefix: str) -> str | None:
    """The name of the weights that a critic's parameter begins with; None for its head, which begins at zero."""
    part, _, rest = name.partition(".")
    return f"{prefix}.{source_name(rest)}" if part == "backbone" else None


def whole_model(language_model: LanguageModel) -> LanguageModel:
    """The first rank's whole copy of a sharded model, in main memory; the other ranks help to gather it, and get none.

    Its tensors are gathered one after the other. All ranks call this together.
    """
    pending = language_model.pending
    assert pending is not None
    adapter = None if pending.bare_adapter is None else without_memory(pending.bare_adapter)
    model = without_memory(pending.bare) if adapter is None else adapter.get_base_model()
    assert isinstance(model, PreTrainedModel)
    take_whole(model, language_model.model, torch.device("cpu"), keeps=distributed.rank() == 0)
    return replace(language_model, model=model, adapter=adapter, pending=None)


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with all ranks as one data-parallel group.

    A checkpoint is a folder: the tensors by torch.distributed.checkpoint, each rank's shards in a file of its own, and
    all else in one more. It can be loaded by another number of ranks.
    """

    def __init__(self, ranks: int, timeout: timedelta, offload: bool) -> None:
        super().__init__(data_parallel_size=ranks, tensor_parallel_size=1, timeout=timeout)
        self.offload = offload

    def _configure_launcher(self) -> None:
        launch_by_ours(self)

    def _get_process_group_backend(self) -> str:
        return backends(self.root_device)

    def setup_environment(self) -> None:
        with joining():
            super().setup_environment()

    def model_to_device(self) -> None:
        """Nothing: shards are made on their device, and with offloading they rest in main memory."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return sharded_state.trained(self.lightning_module)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        assert self.lightning_module is not None
        return sharded_state.moments(self.lightning_module, optimizer)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        path = Path(self.broadcast(os.fspath(filepath)))
        assert self.lightning_module is not None
        checkpoint[sharded_state.LAYOUT] = sharded_state.layout(self.lightning_module, self.optimizers[0])
        tensors = {"state_dict": checkpoint.pop("state_dict"), "moments": checkpoint.pop("optimizer_states")[0]}
        tensors |= {sharded_state.REFERENCE: checkpoint.pop(sharded_state.REFERENCE, {})}
        sharded_state.save(tensors, checkpoint, path, first=self.global_rank == 0)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        assert self.lightning_module is not None
        path = Path(self.broadcast(os.fspath(checkpoint_path)))
        return sharded_state.load(path, self.lightning_module, self.optimizers[0])


class ShardedFloat64(PrecisionPlugin):
    """Float64 under FSDP2: Lightning's own plugin is refused there, so that this one is named like float32.

    The model's weights are float64 before they are sharded, and new tensors are made in it as well.
    """

    precision = "32-true"

    def forward_context(self) -> Any:
        return new_tensors_in_float64()

    def tensor_init_context(self) -> Any:
        return new_tensors_in_float64()
