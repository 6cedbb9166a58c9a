"""Spread of numbers: whether they differ by more than rounding.

Every rule that compares rewards or divides by a standard deviation asks here. What a mean leaves of equal numbers is
rounding, and divided by its own size, or by a small ε, it would become an advantage of order 1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDING_STEPS = 8
"""Units in the last place by which numbers may differ that are equal but for how they were computed. In float32 this is
one part in a million."""


def rounding(magnitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The largest difference that is rounding between numbers computed from ones of this magnitude."""
    return ROUNDING_STEPS * torch.finfo(magnitude.dtype).eps * magnitude


def tied(
    numbers: Float[Tensor, "*shape"], dim: tuple[int, ...], magnitude: Float[Tensor, ""] | None = None
) -> Bool[Tensor, "*reduced"]:
    """Whether all numbers along the dimensions `dim`, which are kept as 1, are the same up to rounding.

    `magnitude` is the size of the numbers that these were computed from, for differences of larger ones; by default
    it is the largest absolute value among them. Numbers that are not finite never tie.
    """
    largest, smallest = numbers.amax(dim, keepdim=True), numbers.amin(dim, keepdim=True)
    size = torch.maximum(largest.abs(), smallest.abs())
    if magnitude is not None:
        size = torch.maximum(size, magnitude.to(size.dtype))
    return largest - smallest <= rounding(size)
