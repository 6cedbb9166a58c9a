"""Operations that formulas are made of: each with its text in two notations and the torch function that computes it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

OR_LEVEL, AND_LEVEL, COMPARES, ADDS, NEGATES, SUMS, MULTIPLIES, POWERS, ATOM = 1, 2, 3, 4, 4.5, 5, 6, 7, 9
"""Levels of binding, from loose to tight. 0 is everything that needs parentheses wherever it stands inside another."""


@dataclass(frozen=True, slots=True)
class Form:
    """The text of an operation in one notation: a template with `{0}`, `{1}`, …, and how tightly it binds.

    An argument that binds less than `needs` says is put in parentheses.
    """

    template: str
    level: float
    needs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on tensors of numbers or truth values: the function that computes it, and its two texts."""

    compute: Callable[..., Tensor]
    unicode: Form
    latex: Form


def _infix(
    compute: Callable[..., Tensor], sign: str, latex: str, level: float, right: float | None = None
) -> Operation:
    needs = (level, level if right is None else right)
    return Operation(compute, Form(f"{{0}}{sign}{{1}}", level, needs), Form(f"{{0}} {latex} {{1}}", level, needs))


def _function(compute: Callable[..., Tensor], name: str, latex: str, arguments: int = 1) -> Operation:
    inside = ", ".join(f"{{{i}}}" for i in range(arguments))
    plain = (0.0,) * arguments
    return Operation(
        compute,
        Form(f"{name}({inside})", ATOM, plain),
        Form(rf"{latex}\left({inside}\right)", ATOM, plain),
    )


ADD = _infix(torch.add, " + ", "+", ADDS)
SUBTRACT = _infix(torch.sub, " − ", "-", ADDS, NEGATES + 0.1)
MULTIPLY = _infix(torch.mul, "·", r"\,", MULTIPLIES, SUMS)
NEGATIVE = Operation(torch.neg, Form("−{0}", NEGATES, (SUMS,)), Form("-{0}", NEGATES, (SUMS,)))
DIVIDE = Operation(
    torch.div, Form("{0}/{1}", MULTIPLIES, (MULTIPLIES, POWERS)), Form(r"\frac{{{0}}}{{{1}}}", POWERS, (0, 0))
)
SQUARE = Operation(torch.square, Form("{0}²", POWERS, (ATOM,)), Form("{0}^{{2}}", POWERS, (ATOM,)))
POWER = Operation(torch.pow, Form("{0}^{1}", POWERS, (ATOM, ATOM)), Form("{0}^{{{1}}}", POWERS, (ATOM, 0)))
LESS = _infix(torch.lt, " < ", "<", COMPARES, ADDS)
AT_MOST = _infix(torch.le, " ≤ ", r"\le", COMPARES, ADDS)
MORE = _infix(torch.gt, " > ", ">", COMPARES, ADDS)
AT_LEAST = _infix(torch.ge, " ≥ ", r"\ge", COMPARES, ADDS)
EQUAL = _infix(torch.eq, " = ", "=", COMPARES, ADDS)
AND = _infix(torch.logical_and, " ∧ ", r"\wedge", AND_LEVEL)
OR = Operation(  # its arguments are put in parentheses, though ∧ binds more tightly
    torch.logical_or,
    Form("{0} ∨ {1}", OR_LEVEL, (COMPARES, COMPARES)),
    Form(r"{0} \vee {1}", OR_LEVEL, (COMPARES, COMPARES)),
)
NOT = Operation(torch.logical_not, Form("¬{0}", POWERS, (POWERS,)), Form(r"\neg {0}", POWERS, (POWERS,)))

EXP = _function(torch.exp, "exp", r"\exp")
LOG = _function(torch.log, "log", r"\log")
SQRT = Operation(torch.sqrt, Form("√({0})", ATOM, (0,)), Form(r"\sqrt{{{0}}}", ATOM, (0,)))
SIGMOID = _function(torch.sigmoid, "σ", r"\sigma")
LOG_SIGMOID = _function(F.logsigmoid, "log σ", r"\log\sigma")
ABSOLUTE = Operation(torch.abs, Form("|{0}|", ATOM, (0,)), Form(r"\left|{0}\right|", ATOM, (0,)))
SIGN = _function(torch.sign, "sign", r"\operatorname{{sign}}")
MINIMUM = _function(torch.minimum, "min", r"\min", 2)
MAXIMUM = _function(torch.maximum, "max", r"\max", 2)
CLIP = _function(lambda x, low, high: x.clamp(low, high), "clip", r"\operatorname{{clip}}", 3)
STOP = Operation(torch.detach, Form("sg[{0}]", ATOM, (0,)), Form(r"\operatorname{{sg}}\left[{0}\right]", ATOM, (0,)))
INDICATOR = Operation(Tensor.double, Form("1[{0}]", ATOM, (0,)), Form(r"\mathbf{{1}}\left[{0}\right]", ATOM, (0,)))
IF = Operation(
    torch.where,
    Form("{{{1} if {0}, else {2}}}", ATOM, (0, 1, 1)),
    Form(r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{else}} \end{{cases}}", ATOM, (0, 0, 0)),
)


def _choose(n: Tensor, k: Tensor) -> Tensor:
    """The binomial coefficient, 0 where k > n."""
    n, k = torch.broadcast_tensors(n.double(), k.double())
    product = torch.ones_like(n)
    for i in range(int(k.max())):
        product = torch.where(i < k, product * (n - i) / (i + 1), product)
    return torch.where(k > n, 0.0, product.round())


CHOOSE = Operation(_choose, Form("C({0}, {1})", ATOM, (0, 0)), Form(r"\binom{{{0}}}{{{1}}}", ATOM, (0, 0)))


def _rank(values: Tensor, descending: bool) -> Tensor:
    """The place of each number in its row, from 1; the earlier of equal numbers comes first."""
    order = values.argsort(dim=1, descending=descending, stable=True)
    places = torch.arange(1, values.shape[1] + 1, dtype=values.dtype).expand_as(values)
    return torch.empty_like(values).scatter_(1, order, places)


RANK_FROM_TOP = _function(lambda x: _rank(x, True), "rank↓", r"\operatorname{{rank}}^{{\downarrow}}")
RANK_FROM_BOTTOM = _function(lambda x: _rank(x, False), "rank↑", r"\operatorname{{rank}}^{{\uparrow}}")


def _inside(compute: Callable[..., Tensor], arguments: int = 1) -> Operation:
    """An operation that only definitions of symbols have in them, so that its own text is never read."""
    return _function(compute, "", "", arguments)


def _next(values: Tensor, response: Tensor) -> Tensor:
    """The number at the next token of the response, 0 after the last."""
    following = torch.zeros_like(values)
    following[:, :-1] = torch.where(response[:, 1:], values[:, 1:], 0.0)
    return following


NEXT = _inside(_next, 2)
CHOSEN = _inside(lambda of: of[:, :, None])
REJECTED = _inside(lambda of: of[:, None, :])


def kth_highest(share: float) -> Operation:
    """Of the numbers at response tokens, the lowest of the `share` that are highest."""

    def compute(values: Tensor, response: Tensor) -> Tensor:
        inside = values[response].sort(descending=True).values
        return inside[max(1, round(share * len(inside))) - 1]

    return _inside(compute, 2)
