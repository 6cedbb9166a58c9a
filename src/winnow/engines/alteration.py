"""Alterations of a sampler: weights, or distributions, that are on purpose not quite the policy's.

Real samplers round their weights, quantise them, or cut distributions off. An alteration does one such thing to the
torch engine and nothing else, so that what follows from it can be studied where all the rest is exact. The sampler then
reports the log-probabilities of the distribution that it has really drawn from, as a real one does.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Unaltered:
    """The sampler as it is, and the base of the alterations, which replace one of its two functions.

    `exact` says whether the sampler still draws from the policy, and `of_weights` whether it needs weights of its own.
    """

    exact: ClassVar[bool] = True
    of_weights: ClassVar[bool] = False

    def weight(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """A parameter as the sampler has it, in the type that it computes in."""
        return weight

    def logits(self, logits: Float[Tensor, "r v"]) -> Float[Tensor, "r v"]:
        """The logits, already divided by the temperature, that the sampler draws from."""
        return logits

    def apply(self, model: nn.Module) -> None:
        """Alter the weights of a model that is the sampler's own."""
        with torch.no_grad():
            for parameter in model.parameters() if self.of_weights else ():
                parameter.copy_(self.weight(parameter))


UNALTERED = Unaltered()


@dataclass(frozen=True, slots=True)
class Rounded(Unaltered):
    """Weights rounded to a shorter type. Products and sums stay in the type of the trainer's."""

    dtype: Literal["bfloat16", "float16"]
    exact: ClassVar[bool] = False
    of_weights: ClassVar[bool] = True

    def weight(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return weight.to(getattr(torch, self.dtype)).to(weight.dtype)


@dataclass(frozen=True, slots=True)
class Quantised(Unaltered):
    """Matrices as whole numbers of so many `bits`, with one scale for each row, symmetric about 0; vectors stay.

    A row's largest absolute value becomes the largest number: 127 with 8 bits.
    """

    bits: int
    exact: ClassVar[bool] = False
    of_weights: ClassVar[bool] = True

    def weight(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if weight.dim() < 2:
            return weight
        most = 2 ** (self.bits - 1) - 1
        largest = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True)
        step = torch.where(largest > 0, largest / most, 1.0)
        return (weight / step).round() * step


@dataclass(frozen=True, slots=True)
class Tempered(Unaltered):
    """A temperature of `factor` times the one that is trained at: below 1 likely tokens are drawn too often."""

    factor: float
    exact: ClassVar[bool] = False

    def logits(self, logits: Float[Tensor, "r v"]) -> Float[Tensor, "r v"]:
        return logits / self.factor


@dataclass(frozen=True, slots=True)
class TopK(Unaltered):
    """Only the `k` likeliest tokens are drawn, and those that tie with the last of them."""

    k: int
    exact: ClassVar[bool] = False

    def logits(self, logits: Float[Tensor, "r v"]) -> Float[Tensor, "r v"]:
        least = logits.topk(min(self.k, logits.shape[1]), dim=1).values[:, -1:]
        return logits.masked_fill(logits < least, -torch.inf)
