"""Clipped value loss and explained variance (PPO's critic)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.ops.spread import tied


def clipped_value_loss(
    values: Float[Tensor, "b s"], old: Float[Tensor, "b s"], returns: Float[Tensor, "b s"], clip: float
) -> Float[Tensor, "b s"]:
    """½ max((v − R)², (v_clip − R)²) per token, v_clip being the value kept within `clip` of the old value."""
    near = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


def explained_variance(
    values: Float[Tensor, "n s"], returns: Float[Tensor, "n s"], response: Bool[Tensor, "n s"]
) -> float:
    """1 − Var(R − v) / Var(R) over response tokens: 1 for a perfect critic, 0 for one that predicts only the mean.

    It is also 0 where the returns do not vary, because what remains of their variance then is rounding: of the values,
    of which a return sums as many as the row has tokens.
    """
    if tied(returns[response], (0,), values[response].abs().max() * response.shape[1]):
        return 0.0
    target, error = returns[response].double(), (returns - values)[response].double()
    return float(1 - error.var(correction=0) / target.var(correction=0))
