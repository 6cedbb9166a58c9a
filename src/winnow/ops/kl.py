"""Estimators of KL(π ‖ π_ref) from tokens drawn from π (joschu.net/blog/kl-approx). `delta` is log π − log π_ref.

As a term of the loss they differ more than as numbers: the gradient of k1 is zero on average, that of k2 is the
reverse KL's, and that of k3 is the forward KL's.
"""

from jaxtyping import Float
from torch import Tensor


def k1(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """delta: unbiased, high variance."""
    return delta


def k2(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """delta² / 2: biased, low variance."""
    return delta.square() / 2


def k3(delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp(−delta) − 1 + delta: unbiased and never negative (`low_var_kl` of the released code)."""
    return (-delta).expm1() + delta
