"""KL estimators k1, k2 and k3, per token: KL(π ‖ π_ref) estimated from tokens drawn from π.

They are those of joschu.net/blog/kl-approx. `delta` is log π − log π_ref of the drawn token. As a loss term the
estimators differ more than their values suggest: the expected gradient of k1 is zero, that of k2 is the gradient of the
reverse KL, and that of k3 the gradient of the forward KL.
"""

from math import exp, log1p

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.ops.ratio import MAX_LOG_RATIO


def k1(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """delta = log π − log π_ref: unbiased, with high variance."""
    return delta


def k2(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """delta² / 2, delta = log π − log π_ref: biased, with low variance."""
    return delta.square() / 2


def k3(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp(−delta) − 1 + delta, delta = log π − log π_ref: unbiased, never negative (`low_var_kl` of the release)."""
    # exp(−delta) overflows, and a bound alone would take away the slope that pulls back. Below it goes on a tangent.
    near = delta.clamp(min=-MAX_LOG_RATIO)
    value = (-near).expm1() + near
    return torch.where(delta < -MAX_LOG_RATIO, value + (1 - exp(MAX_LOG_RATIO)) * (delta - near), value)


def drift(delta: Float[Tensor, "*shape"], cap: float) -> Float[Tensor, "*shape"]:
    """exp(delta) − 1 − delta, and its tangent above log(1 + cap), so that its slope is min(exp(delta) − 1, cap).

    This is CPGD's policy drift (arXiv 2505.12504, section 4.3). Up to the cap it is KL(π_old ‖ π) from tokens drawn
    from π_old, unbiased and never negative; a ratio that has gone far is still pulled back, by a bounded slope.
    """
    near = torch.minimum(delta, delta.new_tensor(log1p(cap)))
    return near.expm1() - near + cap * (delta - near)
