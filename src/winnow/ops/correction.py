"""What a token's advantage is multiplied by where the sampler is not quite the trainer (another kernel, another dtype).

Samples come from μ, and the objective takes them for draws of the trainer's policy π at the same weights. `ratio` is
π(a) / μ(a) of each drawn token, a number without a gradient. Every clipping rule is homogeneous in the advantage, so the
weight scales what the token gains, and nothing else. (TRL: `vllm_importance_sampling_mode`, token_truncate and token_mask;
verl: `rollout_is`, token.)
"""

import torch
from jaxtyping import Float
from torch import Tensor


def none(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1: samples are taken as the trainer's own."""
    return torch.ones_like(ratio)


def truncated(ratio: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """min(ratio, cap): unbiased up to the cap, which bounds the variance (TIS, Yao et al. 2025)."""
    return ratio.clamp(max=cap)


def masked(ratio: Float[Tensor, "*shape"], cap: float, floor: float = 0.0) -> Float[Tensor, "*shape"]:
    """The ratio within [floor, cap], else 0: a token on which they disagree teaches nothing (IcePop, arXiv 2510.18855)."""
    return torch.where((ratio >= floor) & (ratio <= cap), ratio, 0.0)
