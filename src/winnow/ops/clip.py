"""Clipped surrogate objectives, per token: min(r·A, clip(r)·A) and its variants.

r is the importance ratio, A the advantage. Each is to be maximised: the loss is minus its weighted sum over tokens.
Each is homogeneous in A (scaling the advantage by a positive number scales the result), so that a correction weight can
be put on the advantage.
"""

import torch
from jaxtyping import Float
from torch import Tensor

PerToken = Float[Tensor, "b s"]
"""One number for each position of each row of a micro-batch."""


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
