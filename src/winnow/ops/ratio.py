"""What is pushed up or down: the log-probability itself, or the ratio of new to old probability."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Bound on a log-ratio before it is exponentiated: a long response's would overflow, and an infinity times the zero of a
clipped gradient is not a number. At e^20 every clipping rule has long acted."""


def log_probability(
    logprobs: Float[Tensor, "b s"], old: Float[Tensor, "b s"] | None, response: Bool[Tensor, "b s"]
) -> Float[Tensor, "b s"]:
    """No importance sampling: plain log-likelihood (RAFT, Eq. 1)."""
    return logprobs


def token(
    logprobs: Float[Tensor, "b s"], old: Float[Tensor, "b s"], response: Bool[Tensor, "b s"]
) -> Float[Tensor, "b s"]:
    """s_t = π(a_t) / π_old(a_t) of each token (Eq. 5)."""
    return _exp((logprobs - old) * response)


def sequence_product(
    logprobs: Float[Tensor, "b s"], old: Float[Tensor, "b s"], response: Bool[Tensor, "b s"]
) -> Float[Tensor, "b s"]:
    """ρ = π(a) / π_old(a) of the whole response, at each of its tokens (Eq. 4)."""
    log_ratio = ((logprobs - old) * response).sum(1, keepdim=True)
    return _exp(log_ratio).expand_as(logprobs)


def sequence(
    logprobs: Float[Tensor, "b s"], old: Float[Tensor, "b s"], response: Bool[Tensor, "b s"]
) -> Float[Tensor, "b s"]:
    """The geometric mean of the token ratios, at each token (GSPO, arXiv 2507.18071)."""
    length = response.sum(1, keepdim=True).clamp(min=1)
    log_ratio = ((logprobs - old) * response).sum(1, keepdim=True) / length
    return _exp(log_ratio).expand_as(logprobs)


def _exp(log_ratio: Float[Tensor, "b _"]) -> Float[Tensor, "b _"]:
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def uncorrected(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1: samples are taken as the trainer's own."""
    return torch.ones_like(ratio)


def truncated(ratio: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """min(ratio, cap): unbiased up to the cap, which bounds the variance (TIS, Yao et al. 2025)."""
    return ratio.clamp(max=cap)


def masked(ratio: Float[Tensor, "*shape"], cap: float, floor: float = 0.0) -> Float[Tensor, "*shape"]:
    """The ratio within [floor, cap], else 0: a token on which they disagree teaches nothing (IcePop, arXiv 2510.18855)."""
    return torch.where((ratio >= floor) & (ratio <= cap), ratio, 0.0)
