"""Closeness of a gold value and an answer, for physics. Only worker processes import this module."""

from functools import partial

from sympy import Basic, Eq, Expr, Float, Pow, Symbol
from sympy.core.function import AppliedUndef

from winnow.rewards.literal import clean
from winnow.rewards.math import by_members, equal_one, is_scalar, value_at
from winnow.rewards.reading import PRIME, Parsed, read
from winnow.rewards.units import without_unit

_SAME = 1e-9  # of two values of one expression in floating point
# Where expressions are compared: the first symbol's value, the step to the next. Far apart, so that every term and every step of a
# floor matters at one of them, and a tolerance hides none.
_POINTS = ((0.0073908, 0.0027639), (0.7390851, 0.2763932), (1.2020569, 0.5772157), (73.90851, 27.63932))


def close(gold: str, answer: str | None, relative: float) -> bool:
    """Whether `answer` less its unit equals `gold`: numbers within `relative` of the gold where either was rounded,
    expressions by their values where every symbol is positive, anything else as `math.equivalent` has it."""
    return by_members(gold, answer, partial(_close_one, relative=relative))


def _close_one(gold: str, answer: str, relative: float) -> bool:
    left = next(iter(read(gold)), None)
    if is_scalar(left) and not left.free_symbols:
        answer = without_unit(clean(answer), symbols=True)
    right = next(iter(read(answer)), None)
    left, right = _values(left, right)
    if is_scalar(left) and is_scalar(right) and left.free_symbols == right.free_symbols:
        rounded = left.has(Float) or right.has(Float)
        if rounded or left.free_symbols:
            within = relative if rounded else _SAME
            close_by = [_close_at(left, right, within, *point) for point in _POINTS]
            if None not in close_by:
                return all(close_by)
    return equal_one(gold, answer)


def _values(gold: Parsed | None, answer: Parsed | None) -> tuple[Parsed | None, Parsed | None]:
    """The right sides of two equations for the same quantity, or the gold's and an answer that does not name it."""
    if not isinstance(gold, Eq) or not _is_quantity(gold.lhs):
        return gold, answer
    if isinstance(answer, Eq):
        return (gold.rhs, answer.rhs) if gold.lhs == answer.lhs else (gold, answer)
    return gold.rhs, answer


def _is_quantity(side: Basic) -> bool:
    """A symbol, a function's value, or a derivative."""
    return isinstance(side, Symbol | AppliedUndef) or (isinstance(side, Pow) and side.exp.has(PRIME))


def _close_at(gold: Expr, answer: Expr, relative: float, first: float, step: float) -> bool | None:
    """None where one has no finite value."""
    names = sorted({str(symbol) for symbol in gold.free_symbols})
    point = {name: Float(first + step * index) for index, name in enumerate(names)}
    left, right = value_at(gold, point), value_at(answer, point)
    if left is None or right is None:
        return None
    return bool(abs(left - right) <= relative * abs(left))
