"""What a token gains from its ratio, given its advantage."""

import torch
from jaxtyping import Float
from torch import Tensor


def unclipped(ratio: Float[Tensor, "b s"], advantage: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """ratio · A, however far the policy has moved."""
    return ratio * advantage


def dual(
    ratio: Float[Tensor, "b s"], advantage: Float[Tensor, "b s"], low: float, high: float, c: float
) -> Float[Tensor, "b s"]:
    """PPO's pessimistic bound, and for A < 0 never below c · A (dual clip, arXiv 1912.09729, Eq. 5)."""
    pessimistic = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    return torch.where(advantage < 0, torch.maximum(pessimistic, c * advantage), pessimistic)


def ppo(ratio: Float[Tensor, "b s"], advantage: Float[Tensor, "b s"], low: float, high: float) -> Float[Tensor, "b s"]:
    """min(ratio · A, clip(ratio, 1 − low, 1 + high) · A): `dual` without a floor (arXiv 1707.06347, Eq. 7)."""
    return dual(ratio, advantage, low, high, c=float("inf"))


def ratio_min(
    ratio: Float[Tensor, "b s"], advantage: Float[Tensor, "b s"], low: float, high: float
) -> Float[Tensor, "b s"]:
    """min(ratio, clip(ratio)) · A: Eq. 5 as printed. For A < 0 it stops the gradient on the other side than `ppo`."""
    return torch.minimum(ratio, ratio.clamp(1 - low, 1 + high)) * advantage


def cispo(
    ratio: Float[Tensor, "b s"], advantage: Float[Tensor, "b s"], low: float, high: float
) -> Float[Tensor, "b s"]:
    """sg[clip(ratio)] · A · log π in its gradient: every token keeps one, with a bounded weight (arXiv 2506.13585).

    Written as sg[clip(ratio) / ratio] · ratio · A, whose gradient is the same.
    """
    weight = (ratio.clamp(1 - low, 1 + high) / ratio).detach()
    return weight * ratio * advantage
