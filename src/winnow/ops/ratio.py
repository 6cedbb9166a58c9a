"""Importance ratios of new to old policy, per token; correction weights from the ratio of trainer to sampler.

A ratio function gives the quantity that the advantage multiplies: an importance ratio or, without importance sampling,
the log-probability itself. A correction function gives the weight on each token's advantage where the sampler's
probabilities are not exactly the trainer's (another engine, another precision).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PerToken = Float[Tensor, "b s"]
"""One number for each position of each row of a micro-batch; those outside of the responses have no effect."""
MAX_LOG_RATIO = 20.0
"""Bound on a log-ratio before it is exponentiated. The log-ratio of a long response would overflow, and an infinite
ratio times the zero gradient of a clipped token is NaN. Beyond the bound a ratio is a constant, without a gradient."""


def log_probability(logprobs: PerToken, old: PerToken | None, response: Bool[Tensor, "b s"]) -> PerToken:
    """log π(a_t), no importance sampling: its gradient is that of plain log-likelihood (RAFT, Eq. 1)."""
    return logprobs


def token(logprobs: PerToken, old: PerToken, response: Bool[Tensor, "b s"]) -> PerToken:
    """s_t = π(a_t) / π_old(a_t), the importance ratio of each token (Eq. 5)."""
    return _exp((logprobs - old) * response)


def sequence_product(logprobs: PerToken, old: PerToken, response: Bool[Tensor, "b s"]) -> PerToken:
    """ρ = π(a) / π_old(a), the importance ratio of the whole response, repeated at each of its tokens (Eq. 4)."""
    log_ratio = ((logprobs - old) * response).sum(1, keepdim=True)
    return _exp(log_ratio).expand_as(logprobs)


def sequence(logprobs: PerToken, old: PerToken, response: Bool[Tensor, "b s"]) -> PerToken:
    """The geometric mean of the response's token ratios, repeated at each token (GSPO, arXiv 2507.18071)."""
    length = response.sum(1, keepdim=True).clamp(min=1)
    log_ratio = ((logprobs - old) * response).sum(1, keepdim=True) / length
    return _exp(log_ratio).expand_as(logprobs)


def clipped_geometric(
    logprobs: PerToken, old: PerToken, response: Bool[Tensor, "b s"], advantage: PerToken, low: float, high: float
) -> PerToken:
    """The geometric mean of the token ratios, each bounded before the mean by PPO's rule (GMPO, arXiv 2507.20673).

    A ratio is kept above e^−low where A < 0 and below e^high where A > 0, and is free in the other direction.
    """
    change, sign = (logprobs - old) * response, advantage.sign()
    kept = sign * torch.minimum(sign * change, sign * change.clamp(-low, high))
    length = response.sum(1, keepdim=True).clamp(min=1)
    return _exp(kept.sum(1, keepdim=True) / length).expand_as(logprobs)


def _exp(log_ratio: Float[Tensor, "b _"]) -> Float[Tensor, "b _"]:
    return bounded(log_ratio).exp()


def bounded(log_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The log-ratio within ±`MAX_LOG_RATIO`; NaN where it is not finite."""
    # Clamping alone would hide numbers that are not finite: an infinity becomes a bound, and the gradient at a NaN is
    # 0. An infinity minus itself is NaN, which spreads to the loss and to its gradient.
    near = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.where(log_ratio.isfinite(), near, log_ratio - log_ratio)


def uncorrected(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1: samples are treated as if the trainer's own forward had drawn them."""
    return torch.ones_like(ratio)


def truncated(ratio: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """min(ratio, cap): unbiased where the ratio is below the cap, which bounds the variance (TIS, Yao et al. 2025)."""
    return ratio.clamp(max=cap)


def masked(ratio: Float[Tensor, "*shape"], cap: float, floor: float = 0.0) -> Float[Tensor, "*shape"]:
    """The ratio within [floor, cap], else 0: tokens on which both disagree are left out (IcePop, arXiv 2510.18855).

    A ratio that is NaN stays NaN, because nothing is known of such a token.
    """
    return torch.where((ratio < floor) | (ratio > cap), 0.0, ratio)


def sequence_truncated(ratio: PerToken, response: Bool[Tensor, "b s"], cap: float) -> PerToken:
    """min(ρ, cap) at each token, ρ being the ratio of the whole response (sequence-level TIS)."""
    return _of_responses(ratio, response).sum(1, keepdim=True).exp().clamp(max=cap).expand_as(ratio)


def sequence_masked(ratio: PerToken, response: Bool[Tensor, "b s"], cap: float, floor: float = 0.0) -> PerToken:
    """ρ at each token if the ratio ρ of the whole response is within [floor, cap], else 0 (MIS, Liu et al. 2025)."""
    return masked(_of_responses(ratio, response).sum(1, keepdim=True).exp(), cap, floor).expand_as(ratio)


def geometric_masked(ratio: PerToken, response: Bool[Tensor, "b s"], cap: float, floor: float) -> PerToken:
    """1 at each token if the geometric mean of the response's ratios is within [floor, cap], else 0.

    Unlike the product, the mean does not leave the interval because a response is long (verl, rejection sampling of
    rollouts). A mean that is NaN stays NaN.
    """
    mean = (_of_responses(ratio, response).sum(1, keepdim=True) / response.sum(1, keepdim=True).clamp(min=1)).exp()
    return torch.where((mean < floor) | (mean > cap), 0.0, (mean - mean).exp()).expand_as(ratio)


def trust_region_masked(ratio: PerToken, response: Bool[Tensor, "b s"], delta: float) -> PerToken:
    """1 on responses whose every token has k3 = r − 1 − log r ≤ delta, 0 on the others (TRM, arXiv 2512.23075)."""
    change = _of_responses(ratio, response)
    return (change.expm1() - change).amax(1, keepdim=True).le(delta).to(ratio.dtype).expand_as(ratio)


def negative_rows_masked(ratio: PerToken, response: Bool[Tensor, "b s"], advantage: PerToken, delta: float) -> PerToken:
    """0 on responses with A < 0 whose mean log(sampler/trainer) is above delta, else 1 (DeepSeek-V3.2, Eq. 9)."""
    mean = -_of_responses(ratio, response).sum(1, keepdim=True) / response.sum(1, keepdim=True).clamp(min=1)
    return ((advantage >= 0) | (mean <= delta)).to(ratio.dtype)


def _of_responses(ratio: PerToken, response: Bool[Tensor, "b s"]) -> PerToken:
    return torch.where(response, ratio.log(), 0.0)
