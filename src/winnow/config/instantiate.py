"""Objects from configuration nodes."""

from typing import Any, Literal

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.engines.base import Engine
from winnow.errors import ConfigError


def build_algorithm(cfg: DictConfig) -> Algorithm:
    return build_node(cfg.algo)


def build_node(node: DictConfig, **more: object) -> Any:
    try:
        # _convert_: otherwise ListConfig and DictConfig leak into the package.
        return instantiate(node, _convert_="all", **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise


def choice(group: str) -> str:
    """The option chosen for a config group, as the user typed it."""
    return str(HydraConfig.get().runtime.choices.get(group))


Precision = Literal["32-true", "bf16-mixed"]


def on_cuda(cfg: DictConfig) -> bool:
    return cfg.hardware.accelerator == "cuda" or (cfg.hardware.accelerator == "auto" and torch.cuda.is_available())


def precision_of(cfg: DictConfig) -> Precision:
    """Float32 weights everywhere; bfloat16 arithmetic where it is fast."""
    if cfg.hardware.precision != "auto":
        return cfg.hardware.precision
    return "bf16-mixed" if on_cuda(cfg) and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def token_budget(cfg: DictConfig) -> int:
    """Tokens of one forward. Where none is given: on a CPU 16,384 took a fifth more time a token than 4,096, for the system hands
    out larger tables anew each time (docs/log.md)."""
    if cfg.hardware.token_budget is not None:
        return cfg.hardware.token_budget
    return 32_768 if on_cuda(cfg) else 4_096


def samples_exactly(cfg: DictConfig) -> bool:
    """Whether the sampler's log-probabilities are the training forward's up to rounding.

    In bfloat16 they are not: cached decoding rounds otherwise.
    """
    return engine_class(cfg).exact and precision_of(cfg) == "32-true"


def engine_class(cfg: DictConfig) -> type[Engine]:
    return get_object(cfg.engine["_target_"])


MISMATCH = {"32-true": 1e-5, "bf16-mixed": 0.1}
"""Nats a token (k3) between sampler and policy at which a run stops. Rounding comes to 1e-12 in float32 and, on toy models,
3e-4 in bfloat16; policies one update apart differ by more than the first and may differ by less than the second."""


def max_mismatch_kl(cfg: DictConfig) -> float:
    given = cfg.rollout.max_mismatch_kl
    return MISMATCH[precision_of(cfg)] if given is None else given


def reference_kind(algorithm: Algorithm) -> str | None:
    """The reference policy that its objective reads: `initial`, `previous` or none."""
    match algorithm:
        case Preference():
            return algorithm.reference
        case PolicyGradient() | ActorCritic():
            return algorithm.kl.reference if algorithm.kl is not None else None
        case Supervised():
            return None


def needs_reference(cfg: DictConfig, algorithm: Algorithm) -> bool:
    """Whether the initial policy is kept, for the objective or for `train/kl_ref`."""
    if isinstance(algorithm, Supervised):
        return False
    return cfg.metrics.kl_rows > 0 or reference_kind(algorithm) == "initial"
