"""The algorithm of a configuration, and the values that follow from several settings together.

Of what takes long to import, only torch is imported here: checks ask for these values before a model is loaded.
"""

import math
from typing import TYPE_CHECKING

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.config.nodes import build_node
from winnow.objectives import ReferenceKind, Sync
from winnow.rule import AXES, require_callable

if TYPE_CHECKING:
    from winnow.engines.base import Engine
    from winnow.models.precision import Precision


def build_algorithm(cfg: DictConfig) -> Algorithm:
    """The algorithm that the `algo` node describes.

    Raises:
        ConfigError: its rules do not go together, or one of them cannot be called with what its axis offers.
    """
    algorithm = build_node(cfg.algo)
    absent: tuple[str, ...] = ()
    if isinstance(algorithm, PolicyGradient | ActorCritic):
        absent = () if algorithm.objective.kl_in_reward is not None else ("penalty",)
        if algorithm.kl is not None:
            require_callable("kl", algorithm.kl.estimator)
    others = {"kl", "advantage"} if isinstance(algorithm, ActorCritic) else {"kl"}  # GAE is called otherwise
    for axis in AXES:
        if axis not in others and hasattr(algorithm, axis):
            require_callable(axis, getattr(algorithm, axis), absent)
    return algorithm


def on_cuda(cfg: DictConfig) -> bool:
    """Whether the run computes on a GPU; `hardware.accelerator=auto` takes one if torch can use it."""
    return cfg.hardware.accelerator == "cuda" or (cfg.hardware.accelerator == "auto" and torch.cuda.is_available())


def precision_of(cfg: DictConfig) -> "Precision":
    """Precision of the arithmetic, in Lightning's words.

    `hardware.precision=auto` is bfloat16 on a GPU that computes in it natively, and float32 elsewhere.
    """
    if cfg.hardware.precision != "auto":
        return cfg.hardware.precision
    return "bf16-mixed" if on_cuda(cfg) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def token_budget(cfg: DictConfig) -> int:
    """Tokens of one forward.

    The default on a CPU is 4,096: 16,384 took a fifth more time per token, because the system allocates larger tensors
    anew each time (docs/log.md).
    """
    if cfg.hardware.token_budget is not None:
        return cfg.hardware.token_budget
    return 32_768 if on_cuda(cfg) else 4_096


def samples_exactly(cfg: DictConfig) -> bool:
    """Whether the sampler's log-probabilities equal the training forward's up to rounding.

    In bfloat16 they do not, because decoding with a key-value cache rounds differently, and neither do those of
    samples that an earlier policy has drawn.
    """
    return engine_is_exact(cfg) and precision_of(cfg) != "bf16-mixed" and not cfg.rollout.staleness


def engine_is_exact(cfg: DictConfig) -> bool:
    """Whether the sampler draws from the trainer's own forward, and `engine.alter` does not make it another's."""
    return engine_class(cfg).exact and not is_altered(cfg)


def is_altered(cfg: DictConfig) -> bool:
    """Whether `engine.alter` makes the sampler another one than the policy."""
    alter = cfg.engine.get("alter")
    return alter is not None and not get_object(alter["_target_"]).exact


def engine_class(cfg: DictConfig) -> "type[Engine]":
    """The class of the sampler, without building it."""
    return get_object(cfg.engine["_target_"])


MISMATCH: "dict[Precision, float]" = {"32-true": 1e-5, "64-true": 1e-8, "bf16-mixed": 0.1}
"""KL divergence between sampler and policy (k3, nats per token) at which a run stops.

Rounding alone gives 1e-12 in float32, as it does in float64 for models with modules that compute in float32 all the
same, and on toy models 3e-4 in bfloat16. Policies one update apart differ by more than the limit of float32, and may
differ by less than that of bfloat16.
"""


def max_mismatch_kl(cfg: DictConfig) -> float:
    """`rollout.max_mismatch_kl`, or else the limit for the precision; none for a sampler that is off on purpose."""
    limit = cfg.rollout.max_mismatch_kl
    if limit is None:
        return math.inf if is_altered(cfg) else MISMATCH[precision_of(cfg)]
    return limit


def reference_kind(algorithm: Algorithm) -> ReferenceKind | None:
    """The reference policy in the algorithm's objective, None without one."""
    match algorithm:
        case Preference():
            return algorithm.reference
        case PolicyGradient() | ActorCritic():
            return algorithm.kl.reference if algorithm.kl is not None else None
        case Supervised():
            return None


def needs_reference(cfg: DictConfig, algorithm: Algorithm) -> bool:
    """Whether the run keeps a reference policy of its own, for its objective or for the metric `train/kl_ref`."""
    if isinstance(algorithm, Supervised):
        return False
    return cfg.metrics.kl_rows > 0 or reference_kind(algorithm) in ("initial", "synced")


def sync_of(algorithm: Algorithm) -> Sync | None:
    """The rule by which the reference policy follows the policy; None if it does not."""
    if reference_kind(algorithm) != "synced":
        return None
    match algorithm:
        case Preference():
            return algorithm.sync
        case PolicyGradient() | ActorCritic():
            return algorithm.kl.sync if algorithm.kl is not None else None
        case Supervised():
            return None
