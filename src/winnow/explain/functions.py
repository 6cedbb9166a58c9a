"""Functions of expressions, to write formulas with as one writes the functions of `winnow.ops`."""

import math

from winnow.explain import operations as op
from winnow.explain.expression import Apply, Constant, Expression, Number, expression


def _apply(operation: op.Operation, *arguments: Number) -> Expression:
    return Apply(operation, tuple(expression(argument) for argument in arguments))


def exp(x: Number) -> Expression:
    return _apply(op.EXP, x)


def log(x: Number) -> Expression:
    return _apply(op.LOG, x)


def sqrt(x: Number) -> Expression:
    return _apply(op.SQRT, x)


def sigmoid(x: Number) -> Expression:
    return _apply(op.SIGMOID, x)


def log_sigmoid(x: Number) -> Expression:
    return _apply(op.LOG_SIGMOID, x)


def absolute(x: Number) -> Expression:
    return _apply(op.ABSOLUTE, x)


def sign(x: Number) -> Expression:
    return _apply(op.SIGN, x)


def minimum(a: Number, b: Number) -> Expression:
    """The smaller one. A bound of +∞ is none."""
    return expression(a) if expression(b) == Constant(math.inf) else _apply(op.MINIMUM, a, b)


def maximum(a: Number, b: Number) -> Expression:
    """The larger one. A bound of −∞ is none."""
    return expression(a) if expression(b) == Constant(-math.inf) else _apply(op.MAXIMUM, a, b)


def clamp(x: Number, low: Number, high: Number) -> Expression:
    return _apply(op.CLIP, x, low, high)


def stop(x: Number) -> Expression:
    """The value without its gradient."""
    return _apply(op.STOP, x)


def indicator(condition: Expression) -> Expression:
    """1 where the condition holds, else 0."""
    return _apply(op.INDICATOR, condition)


def equal(a: Number, b: Number) -> Expression:
    return _apply(op.EQUAL, a, b)


def either(condition: Expression, a: Number, b: Number) -> Expression:
    """`a` where the condition holds, else `b`."""
    return expression(a) if expression(a) == expression(b) else _apply(op.IF, condition, a, b)


def choose(n: Number, k: Number) -> Expression:
    """The binomial coefficient."""
    return _apply(op.CHOOSE, n, k)


def rank_from_top(x: Number) -> Expression:
    """The place of each sample in its group, highest first."""
    return _apply(op.RANK_FROM_TOP, x)


def rank_from_bottom(x: Number) -> Expression:
    """The place of each sample in its group, lowest first."""
    return _apply(op.RANK_FROM_BOTTOM, x)
