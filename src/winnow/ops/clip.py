"""Clipped surrogate objectives, per token: min(r·A, clip(r)·A) and its variants.

r is the importance ratio, A the advantage. Each is to be maximised: the loss is minus its weighted sum over tokens.
Each is homogeneous in A (scaling the advantage by a positive number scales the result), so that a correction weight can
be put on the advantage.
"""

from math import log
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.ops.ratio import negative_rows_masked

PerToken = Float[Tensor, "b s"]
"""One number for each position of each row of a micro-batch."""
TINY = 1e-7
"""Distance of probabilities from 0 and 1 at which their KL is taken."""


def unclipped(ratio: PerToken, advantage: PerToken) -> PerToken:
    """r·A without any bound, however far the policy has moved."""
    return ratio * advantage


def dual(ratio: PerToken, advantage: PerToken, low: float, high: float, c: float) -> PerToken:
    """min(r·A, clip(r, 1 − low, 1 + high)·A), and for A < 0 never below c·A (dual clip, arXiv 1912.09729, Eq. 5)."""
    pessimistic = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    return torch.where(advantage < 0, torch.maximum(pessimistic, c * advantage), pessimistic)


def ppo(ratio: PerToken, advantage: PerToken, low: float, high: float) -> PerToken:
    """min(r·A, clip(r, 1 − low, 1 + high)·A), PPO's pessimistic bound (arXiv 1707.06347, Eq. 7).

    A token's gradient is cut off only where its ratio has already moved past the bound in the direction of its
    advantage.
    """
    # A floor of −∞ never binds: where A < 0, c·A is −∞, and elsewhere `dual` does not read it.
    return dual(ratio, advantage, low, high, c=float("inf"))


def ratio_min(ratio: PerToken, advantage: PerToken, low: float, high: float) -> PerToken:
    """min(r, clip(r, 1 − low, 1 + high))·A, Eq. 5 as printed: no gradient above 1 + high, whatever the sign of A.

    For A ≥ 0 this is PPO's bound. For A < 0 PPO's bound cuts off the gradient below 1 − low instead.
    """
    return torch.minimum(ratio, ratio.clamp(1 - low, 1 + high)) * advantage


def cispo(ratio: PerToken, advantage: PerToken, low: float, high: float) -> PerToken:
    """sg[clip(r, 1 − low, 1 + high)]·A·log π in its gradient, which no token loses (CISPO, arXiv 2506.13585).

    sg is the stop-gradient. It is computed as sg[clip(r) / r]·r·A, which has the same gradient and needs only the
    ratio.
    """
    weight = (ratio.clamp(1 - low, 1 + high) / ratio).detach()
    return weight * ratio * advantage


def sapo(ratio: PerToken, advantage: PerToken, positive: float, negative: float) -> PerToken:
    """σ(τ(r − 1))·4/τ·A: a soft gate instead of a bound, τ by the sign of A (SAPO, arXiv 2511.20347).

    At r = 1 its gradient is that of r·A, and it decays on both sides.
    """
    rate = _by_sign(advantage > 0, positive, negative, ratio)
    return torch.sigmoid(rate * (ratio - 1)) * 4 / rate * advantage


def topr(ratio: PerToken, advantage: PerToken, logprobs: PerToken) -> PerToken:
    """A·log π where A > 0, else sg[min(r, 1)]·A·log π (TOPR, arXiv 2503.14286, Eq. 8; r of the whole response).

    Good responses are imitated however unlikely they have become; bad ones are pushed down only while they are likely.
    """
    return torch.where(advantage > 0, 1.0, ratio.clamp(max=1)).detach() * advantage * logprobs


def vespo(
    ratio: PerToken,
    advantage: PerToken,
    logprobs: PerToken,
    k_pos: float,
    lambda_pos: float,
    k_neg: float,
    lambda_neg: float,
) -> PerToken:
    """sg[r^k · e^{λ(1 − r)}]·A·log π, with k and λ by the sign of A (VESPO, arXiv 2602.10693, Eq. 20).

    r is that of the whole response. The weight is 1 at r = 1, has its peak at r = k/λ and no hard bound; it is taken as
    one exponential, because r^k alone can overflow where e^{λ(1 − r)} is 0.
    """
    positive = advantage >= 0
    k, rate = _by_sign(positive, k_pos, k_neg, ratio), _by_sign(positive, lambda_pos, lambda_neg, ratio)
    return torch.exp(k * ratio.log() + rate * (1 - ratio)).detach() * advantage * logprobs


def _by_sign(positive: Bool[Tensor, "b s"], a: float, b: float, like: PerToken) -> PerToken:
    """`a` or `b`. Without tensors of the ratio's type, where() would round both to float32."""
    return torch.where(positive, like.new_tensor(a), like.new_tensor(b))


def cpgd(ratio: PerToken, advantage: PerToken, logprobs: PerToken, old: PerToken, low: float, high: float) -> PerToken:
    """min(log r·A, clip(log r, log(1 − low), log(1 + high))·A): no ratio in its gradient (CPGD, arXiv 2505.12504)."""
    change = logprobs - old
    return torch.minimum(change * advantage, change.clamp(log(1 - low), log(1 + high)) * advantage)


def dppo(
    ratio: PerToken,
    advantage: PerToken,
    logprobs: PerToken,
    sampled: PerToken,
    low: float,
    high: float,
    cap: float,
    divergence: Literal["tv", "kl"] = "tv",
) -> PerToken:
    """sg[min(r, cap)]·A·log π, and 0 where the token's divergence is beyond high (A > 0) or low in A's direction.

    The divergence of "this token or another" is |π − μ| or KL(μ ‖ π) from the sampler's probability μ, so that
    unlikely tokens may change by large ratios (DPPO, arXiv 2602.04879, binary forms).
    """
    p, q = sampled.exp(), logprobs.detach().exp()
    moved = {"tv": _total_variation, "kl": _binary_kl}[divergence](p, q)
    beyond = torch.where(advantage > 0, (q > p) & (moved > high), (q < p) & (moved > low))
    return ratio.clamp(max=cap).detach() * advantage * logprobs * ~beyond


def _total_variation(p: PerToken, q: PerToken) -> PerToken:
    return (q - p).abs()


def _binary_kl(p: PerToken, q: PerToken) -> PerToken:
    p, q = p.clamp(TINY, 1 - TINY), q.clamp(TINY, 1 - TINY)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def stale_negatives_left_out(
    ratio: PerToken,
    advantage: PerToken,
    logprobs: PerToken,
    sampled: PerToken,
    response: Bool[Tensor, "b s"],
    low: float,
    high: float,
    delta: float,
) -> PerToken:
    """PPO's bound, and 0 on responses with A < 0 whose mean log(sampler/π) is above delta (DeepSeek-V3.2, Eq. 9)."""
    kept = negative_rows_masked((logprobs - sampled).detach().exp(), response, advantage, delta)
    return ppo(ratio, advantage, low, high) * kept
