"""Formulas computed: an expression and its quantities as tensors → its value, with the gradient of each operation."""

from collections.abc import Callable

import torch
from torch import Tensor

from winnow.explain.domains import Quantities
from winnow.explain.expression import Apply, Constant, Expression, Over, Symbol


def evaluate(formula: Expression, given: Quantities) -> Tensor:
    """The value of a formula, in float64.

    Raises:
        KeyError: a symbol is neither given nor defined.
    """
    match formula:
        case Constant():
            kind = torch.bool if isinstance(formula.value, bool) else torch.float64
            return torch.tensor(formula.value, dtype=kind)
        case Symbol():
            if formula.key in given:
                found = given[formula.key]
                return found if found.dtype == torch.bool else found.double()
            if formula.definition is None:
                raise KeyError(formula.key)
            return evaluate(formula.definition, given)
        case Apply():
            return formula.operation.compute(*(evaluate(argument, given) for argument in formula.arguments))
        case Over():
            return _reduced(formula, given)
        case _:
            raise TypeError(type(formula).__name__)


def _reduced(formula: Over, given: Quantities) -> Tensor:
    body, mask, dim, keeps = formula.domain.view(evaluate(formula.body, given), given)
    if formula.where is not None:
        mask = mask & formula.domain.view(evaluate(formula.where, given), given)[0]
    return REDUCTIONS[formula.how](body, mask, dim, keeps)


def _sum(body: Tensor, mask: Tensor, dim: tuple[int, ...], keeps: bool) -> Tensor:
    return torch.where(mask, body, 0.0).sum(dim, keepdim=keeps)


def _mean(body: Tensor, mask: Tensor, dim: tuple[int, ...], keeps: bool) -> Tensor:
    return _sum(body, mask, dim, keeps) / mask.sum(dim, keepdim=keeps)


def _var(body: Tensor, mask: Tensor, dim: tuple[int, ...], keeps: bool) -> Tensor:
    distances = body - _mean(body, mask, dim, True)
    return _sum(distances.square(), mask, dim, keeps) / (mask.sum(dim, keepdim=keeps) - 1)


REDUCTIONS: dict[str, Callable[[Tensor, Tensor, tuple[int, ...], bool], Tensor]] = {
    "sum": _sum,
    "mean": _mean,
    "var": _var,
    "std": lambda *of: _var(*of).sqrt(),
    "max": lambda body, mask, dim, keeps: body.masked_fill(~mask, -torch.inf).amax(dim, keepdim=keeps),
    "min": lambda body, mask, dim, keeps: body.masked_fill(~mask, torch.inf).amin(dim, keepdim=keeps),
    "any": lambda body, mask, dim, keeps: (body & mask).any(dim, keepdim=keeps),
    "all": lambda body, mask, dim, keeps: (body | ~mask).all(dim, keepdim=keeps),
}
