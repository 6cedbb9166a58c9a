"""Gradients by finite differences, with what a function holds constant held constant.

A stop-gradient is no part of what autograd differentiates. So that it can be compared with finite differences at all,
every number in which a function leaves the graph (by `detach`, under `no_grad`, by a comparison) is recorded at the
point itself, and given again when the function is called beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

STEP = 1e-6
"""Half the distance of two points, which leaves an error of some 1e-9 in float64."""


@dataclass
class Held:
    """The numbers in which a function left the graph, in the order in which it did."""

    numbers: list[Tensor] = field(default_factory=list)


class _Holding(TorchFunctionMode):
    """Records the numbers that leave the graph, or gives recorded ones in their place."""

    def __init__(self, held: Held, give: bool) -> None:
        super().__init__()
        self.held, self.give, self.turn = held, give, 0

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or result.requires_grad:
            return result
        if not any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves((args, kwargs))):
            return result
        if not self.give:
            self.held.numbers.append(result.clone())
            return result
        self.turn += 1
        return self.held.numbers[self.turn - 1].clone() if self.turn <= len(self.held.numbers) else result


Scalar = Callable[[Tensor], Tensor]


def autograd(function: Scalar, at: Tensor) -> Tensor:
    """The derivative of a scalar function by each number of `at`, by autograd; zero where the graph does not reach."""
    leaf = at.detach().clone().requires_grad_()
    value = function(leaf)
    if not value.requires_grad:
        return torch.zeros_like(at)
    (slope,) = torch.autograd.grad(value, [leaf], allow_unused=True)
    return torch.zeros_like(at) if slope is None else slope


def finite_differences(function: Scalar, at: Tensor, places: Sequence[tuple[int, ...]], hold: bool) -> Tensor:
    """The derivative at some places of `at` by finite differences, what left the graph held constant if `hold`."""
    held = Held()
    with _Holding(held, give=False):
        function(at.detach().clone().requires_grad_())
    found = torch.zeros_like(at)
    for place in places:
        ends = []
        for step in (STEP, -STEP):
            beside = at.detach().clone()
            beside[place] += step
            if hold:
                with _Holding(held, give=True):
                    ends.append(function(beside.requires_grad_()).item())
            else:
                ends.append(function(beside.requires_grad_()).item())
        found[place] = (ends[0] - ends[1]) / (2 * STEP)
    return found
