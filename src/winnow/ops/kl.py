"""KL estimators k1, k2 and k3, per token: KL(π ‖ π_ref) estimated from tokens drawn from π.

They are those of joschu.net/blog/kl-approx. `delta` is log π − log π_ref of the drawn token. As a loss term the
estimators differ more than their values suggest: the expected gradient of k1 is zero, that of k2 is the gradient of the
reverse KL, and that of k3 the gradient of the forward KL.
"""

from jaxtyping import Float
from torch import Tensor


def k1(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """delta = log π − log π_ref: unbiased, with high variance."""
    return delta


def k2(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """delta² / 2, delta = log π − log π_ref: biased, with low variance."""
    return delta.square() / 2


def k3(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp(−delta) − 1 + delta, delta = log π − log π_ref: unbiased, never negative (`low_var_kl` of the release)."""
    return (-delta).expm1() + delta


def drift(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp(delta) − 1 − delta: KL(π_old ‖ π) from tokens drawn from π_old, never negative (CPGD's policy drift)."""
    return delta.expm1() - delta
