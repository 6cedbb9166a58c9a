"""Hardware of a training run from its configuration: devices and strategy, settings of the models, sharded parts."""

from datetime import timedelta

from omegaconf import DictConfig
from transformers import PreTrainedModel

from winnow.config.instantiate import precision_of
from winnow.models.backbone import compile_blocks, enable_gradient_checkpointing
from winnow.models.language_model import PendingWeights
from winnow.models.policy import AdaptersOff, Critic, FrozenCopy, Policy
from winnow.models.precision import PRODUCTS, WEIGHTS
from winnow.training.hardware import Hardware
from winnow.training.sharded import ShardedParts


def hardware_of(cfg: DictConfig, strategy: str) -> Hardware:
    """Devices and precision of a run whose processes share the work by `strategy`."""
    return Hardware(
        cfg.hardware.accelerator,
        cfg.hardware.devices,
        cfg.hardware.nodes,
        strategy,
        precision_of(cfg),
        timedelta(seconds=cfg.hardware.timeout),
        cfg.hardware.offload,
    )


def sharded_parts(
    cfg: DictConfig,
    pending: PendingWeights,
    policy: Policy,
    critic: Critic | None,
    reference: FrozenCopy | AdaptersOff | None,
) -> ShardedParts:
    """The modules of a run that are to be sharded. Weights compute in the type of matrix products once gathered."""
    precision = precision_of(cfg)
    lower = None if PRODUCTS[precision] == WEIGHTS[precision] else PRODUCTS[precision]
    copied = reference if isinstance(reference, FrozenCopy) else None
    return ShardedParts(pending, policy, critic, copied, lower, cfg.hardware.offload)


def apply_hardware(cfg: DictConfig, model: PreTrainedModel, checked: PreTrainedModel) -> None:
    """Gradient checkpointing and compilation of a model, if the configuration asks for them."""
    if cfg.hardware.gradient_checkpointing:
        enable_gradient_checkpointing(model, checked=checked)
    if cfg.hardware.compile:
        compile_blocks(model)
