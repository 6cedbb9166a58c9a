r"""Equivalence of a gold answer and an answer, by math-verify. Pure functions; only worker processes import this module.

Nothing here limits time or memory: math-verify's own limits use signals, which fail off the main thread and cannot stop a
computation in C. The process that runs these functions is what gets killed.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import TypeGuard, cast

from latex2sympy2_extended.logic import And as ExtendedAnd
from math_verify import verify
from sympy import (
    And,
    Eq,
    Expr,
    FiniteSet,
    Float,
    Intersection,
    MatrixExpr,
    Max,
    Number,
    Set,
    Symbol,
    Union,
)
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from winnow.rewards.literal import PlainNumber, clean, read_number, same_number
from winnow.rewards.members import matched, members
from winnow.rewards.reading import Parsed, read


def equivalent(gold: str, answer: str | None) -> bool:
    """Whether `answer` equals `gold`, or, for None, whether `gold` can be read at all. Not symmetric: gold's form leads.

    Several answers are compared one by one, in any order.
    """
    return by_members(gold, answer, equal_one)


def by_members(gold: str, answer: str | None, same: Callable[[str, str], bool]) -> bool:
    golds = members(clean(gold))
    if answer is None:
        return all(map(read, golds)) or bool(read(gold))
    answers = members(clean(answer))
    if len(golds) > 1 and len(answers) > 1:
        return matched(golds, answers, same) is True
    return same(gold, answer)


def equal_one(gold: str, answer: str) -> bool:
    if not (golds := read(gold)):
        return False
    answers = tuple(_renamed(found, golds[0]) for found in read(answer))
    number = read_number(clean(gold))
    if number is not None and abs(number.value) < Fraction(1, 1000):
        answers = tuple(found for found in answers if not _another_small_number(number, found))
    region = golds[0].rhs if isinstance(golds[0], Eq) else golds[0]  # x in [1, 2] is read as an equation
    if isinstance(region, Set) and answers and (solutions := _solutions(answers[0])) is not None:
        return verify([region], [solutions], timeout_seconds=None)
    for found in answers:
        if (settled := _by_numbers(golds[0], found)) is not None:
            return settled
    return bool(answers) and verify(list(golds), list(answers), timeout_seconds=None)


def _solutions(found: Parsed) -> Set | None:
    """What `1 < x \\le 2`, or `x < 1` or `x > 2`, leaves to x, to be compared with an interval; None for anything else."""
    parts = found.args if isinstance(found, And | ExtendedAnd | FiniteSet) else (found,)
    inequalities = [part for part in parts if isinstance(part, Relational) and not isinstance(part, Eq)]
    if not parts or len(inequalities) < len(parts) or len(found.free_symbols) != 1:
        return None
    combine = Union if isinstance(found, FiniteSet) else Intersection
    return combine(*(inequality.as_set() for inequality in inequalities))


def _renamed(found: Parsed, gold: Parsed) -> Parsed:
    """`f(x) = x` in the letters of the gold `f(n) = n`."""
    theirs, ours = _argument(found), _argument(gold)
    if theirs is None or ours is None or theirs == ours or ours in found.free_symbols:
        return found
    return cast(Parsed, found.xreplace({theirs: ours}))


def _argument(found: Parsed) -> Symbol | None:
    """The argument of the function that an equation defines."""
    left = found.lhs if isinstance(found, Eq) else None
    if isinstance(left, AppliedUndef) and len(left.args) == 1 and isinstance(left.args[0], Symbol):
        return left.args[0]
    return None


def _by_numbers(gold: Parsed, answer: Parsed) -> bool | None:
    """Spares math-verify's `simplify` (tens of milliseconds, sometimes seconds) where arithmetic tells in under one.

    Expressions whose values differ at a point are not equal; those whose difference expands to 0 are. Lone symbols are left
    to math-verify, which also reads them as words.
    """
    if not is_scalar(gold) or not is_scalar(answer):
        return None
    try:
        names = sorted({str(symbol) for symbol in gold.free_symbols | answer.free_symbols})
        point = {name: Float(0.7390851 + 0.2763932 * index) for index, name in enumerate(names)}
        left, right = value_at(gold, point), value_at(answer, point)
        if left is not None and right is not None and abs(left - right) > 1e-5 * Max(1, abs(left), abs(right)):
            return False
        return True if (gold - answer).expand() == 0 else None
    except Exception:  # sympy raises anything on what models write; math-verify guards each of its own steps
        return None


def is_scalar(found: Parsed | None) -> TypeGuard[Expr]:
    return isinstance(found, Expr) and not isinstance(found, Symbol | MatrixExpr)


def value_at(expression: Expr, point: dict[str, Float]) -> Expr | None:
    """None where it has no finite value: an unknown function, a pole, an infinity."""
    placed = cast(Expr, expression.xreplace({symbol: point[str(symbol)] for symbol in expression.free_symbols}))
    value = placed.evalf()
    return value if value.is_number and value.is_finite else None


def _another_small_number(gold: PlainNumber, found: Parsed) -> bool:
    """math-verify rounds to six places, so that 1.24e-8 would equal 1.25e-8, and 0."""
    value = found.evalf(20) if isinstance(found, Expr) and found.is_number else None
    if not isinstance(value, Number) or not value.is_finite:
        return False
    return not same_number(gold, PlainNumber(Fraction(str(value)), decimal=True))
