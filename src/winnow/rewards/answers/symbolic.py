"""Symbolic comparison of answers: math-verify's parser and comparison with their known errors corrected, on sympy.

Only worker processes import this module.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TypeGuard, cast

import sympy
from latex2sympy2_extended.logic import And as ExtendedAnd
from math_verify import grader, verify
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from winnow.rewards.answers.constants import equal_constants, exact, is_constant
from winnow.rewards.answers.inequalities import same_statement
from winnow.rewards.answers.lists import match_answers, split_answers, tuple_of_assignments
from winnow.rewards.answers.parsed import PRIME, Parsed, parse_answer
from winnow.rewards.answers.real_functions import same_real_function
from winnow.rewards.answers.text import PlainNumber, normalize, read_number, same_number, without_unit


def equivalent(gold: str, answer: str | None) -> bool:
    """Whether `answer` equals `gold`; for an answer of None, whether `gold` can be read at all.

    The relation is not symmetric: the form of the gold decides how the answer is read. Several answers are compared one
    by one, in any order.
    """
    return compare_lists(gold, answer, equal_answers)


def compare_lists(gold: str, answer: str | None, same: Callable[[str, str], bool]) -> bool:
    """Whether gold and answer, split into their members, pair off by `same`; for None, whether `gold` can be read."""
    golds = split_answers(normalize(gold))
    if answer is None:
        return (
            all(map(parse_answer, golds)) or bool(parse_answer(gold)) or same_statement(*[normalize(gold)] * 2) is True
        )
    if (settled := same_statement(normalize(gold), normalize(answer))) is not None:
        return settled
    if (paired := _as_tuples(normalize(gold), normalize(answer))) is not None:
        return same(*paired)
    answers = split_answers(normalize(answer))
    if len(golds) > 1 and len(answers) > 1:
        return match_answers(golds, answers, same) is True
    return same(gold, answer)


def _as_tuples(gold: str, answer: str) -> tuple[str, str] | None:
    """Both as tuples where one of them is a tuple and the other names its components (`x=1,y=2` and `(1,2)`)."""
    named_gold, named_answer = tuple_of_assignments(gold), tuple_of_assignments(answer)
    if named_gold and not named_answer and answer.startswith("("):
        return named_gold, answer
    if named_answer and not named_gold and gold.startswith("(") and len(split_answers(gold)) == 1:
        return gold, named_answer
    return None


def equal_answers(gold: str, answer: str) -> bool:
    """Whether two single answers are equal by sympy; False if one of them cannot be parsed."""
    if not (golds := parse_answer(gold)):
        return False
    answers = tuple(_renamed(found, golds[0]) for found in parse_answer(answer))
    number = read_number(normalize(gold))
    if number is not None and abs(number.value) < Fraction(1, 1000):
        answers = tuple(found for found in answers if not _differs_from_small_number(number, found))
    region = golds[0].rhs if isinstance(golds[0], sympy.Eq) else golds[0]  # x in [1, 2] is parsed to an Eq
    if isinstance(region, sympy.Set) and answers and (solutions := _solutions(answers[0])) is not None:
        return verify([region], [solutions], timeout_seconds=None)
    for found in answers:
        if (settled := _by_numbers(golds[0], found)) is not None:
            return settled
    if answers and verify(list(golds), list(answers), timeout_seconds=None):
        return True
    return any(is_scalar(golds[0]) and is_scalar(found) and same_real_function(golds[0], found) for found in answers)


def _solutions(found: Parsed) -> sympy.Set | None:
    r"""The solution set of `1 < x \le 2` or of several inequalities in one symbol; None for anything else.

    Inequalities are intersected, except where they are alternatives (`x < 1` or `x > 2`).
    """
    parts = found.args if isinstance(found, sympy.And | ExtendedAnd | sympy.FiniteSet) else (found,)
    inequalities = [part for part in parts if isinstance(part, Relational) and not isinstance(part, sympy.Eq)]
    if not parts or len(inequalities) < len(parts) or len(found.free_symbols) != 1:
        return None
    combine = sympy.Union if isinstance(found, sympy.FiniteSet) else sympy.Intersection
    return combine(*(inequality.as_set() for inequality in inequalities))


def _renamed(found: Parsed, gold: Parsed) -> Parsed:
    """An answer such as `f(x) = x` with its argument renamed to that of the gold `f(n) = n`."""
    theirs, ours = _argument(found), _argument(gold)
    if theirs is None or ours is None or theirs == ours or ours in found.free_symbols:
        return found
    return cast(Parsed, found.xreplace({theirs: ours}))


def _argument(found: Parsed) -> sympy.Symbol | None:
    """The argument of the function that an equation defines; None if it defines none."""
    left = found.lhs if isinstance(found, sympy.Eq) else None
    if isinstance(left, AppliedUndef) and len(left.args) == 1 and isinstance(left.args[0], sympy.Symbol):
        return left.args[0]
    return None


# The points at which expressions are compared: the first symbol's value, and the step to the next symbol's. They lie
# far apart, so that every term and every step of a floor function matters at one of them, and a tolerance hides none.
_POINTS = ((0.0073908, 0.0027639), (0.7390851, 0.2763932), (1.2020569, 0.5772157), (73.90851, 27.63932))


def _by_numbers(gold: Parsed, answer: Parsed) -> bool | None:
    """Equality by evaluation at a point and by expansion; None if neither decides.

    This avoids math-verify's `simplify`, which takes tens of milliseconds and sometimes seconds, where arithmetic
    decides in under one millisecond. Expressions whose values differ at a point are not equal; those whose difference
    expands to 0 are equal. Single symbols are left to math-verify, which also reads them as words.
    """
    if not is_scalar(gold) or not is_scalar(answer):
        return None
    try:
        if is_constant(gold) and is_constant(answer) and not _is_rounded(gold, answer):
            return equal_constants(gold, answer)
        left, right = _values_at(_POINTS[1], gold, answer)
        if left is not None and right is not None and abs(left - right) > 1e-5 * sympy.Max(1, abs(left), abs(right)):
            return False
        return True if (gold - answer).expand() == 0 else None
    except Exception:  # sympy raises anything on what models write; math-verify guards each of its own steps
        return None


def _is_rounded(*found: sympy.Basic) -> bool:
    """Whether one of two answers is a decimal number or a percentage, which math-verify compares to six places."""
    return any(grader.is_atomic_or_pct_atomic(one, sympy.Float) or grader.get_pct_val(one) is not None for one in found)


_six_places = grader.sympy_numeric_eq


def _numbers_equal(gold: Parsed, answer: Parsed, float_rounding: int, numeric_precision: int) -> bool:
    """math-verify's comparison of numbers inside of tuples, intervals, matrices and equations, without its tolerance.

    It takes every difference below about 1e-15 for 0, and thus (1, 1/2^98) for (1, 1/2^97).
    """
    if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)) or _is_rounded(gold, answer):
        return _six_places(gold, answer, float_rounding, numeric_precision) and not _differs_if_small(gold, answer)
    if is_constant(gold) and is_constant(answer):
        return equal_constants(gold, answer)
    return sympy.expand(exact(gold) - exact(answer)) == 0


def _differs_if_small(gold: Parsed, answer: Parsed) -> bool:
    if not (isinstance(gold, sympy.Float) and 0 < abs(gold) < 1e-3):
        return False
    return _differs_from_small_number(PlainNumber(Fraction(str(gold)), decimal=True), answer)


grader.sympy_numeric_eq = _numbers_equal


def is_scalar(found: Parsed | None) -> TypeGuard[sympy.Expr]:
    return isinstance(found, sympy.Expr) and not isinstance(found, sympy.Symbol | sympy.MatrixExpr)


def _values_at(point: tuple[float, float], *expressions: sympy.Expr) -> list[sympy.Expr | None]:
    """The values of expressions at one of `_POINTS`, from the symbols in order of name.

    None stands for a value that is not finite, as at a pole, or that does not exist, as of an unknown function.
    """
    names = sorted({str(symbol) for expression in expressions for symbol in expression.free_symbols})
    numbers = {name: sympy.Float(point[0] + point[1] * index) for index, name in enumerate(names)}

    def value_of(expression: sympy.Expr) -> sympy.Expr | None:
        at_point = expression.xreplace({symbol: numbers[str(symbol)] for symbol in expression.free_symbols})
        value = cast(sympy.Expr, at_point).evalf()
        return value if value.is_number and value.is_finite else None

    return [value_of(expression) for expression in expressions]


def _differs_from_small_number(gold: PlainNumber, found: Parsed) -> bool:
    """Whether `found` is a number that differs from `gold`.

    math-verify rounds to six places, so that 1.24e-8 would equal both 1.25e-8 and 0.
    """
    value = found.evalf(20) if isinstance(found, sympy.Expr) and found.is_number else None
    if not isinstance(value, sympy.Number) or not value.is_finite:
        return False
    return not same_number(gold, PlainNumber(Fraction(str(value)), decimal=True))


_EXACT_TOLERANCE = 1e-9  # relative, between two ways to compute one value in floating point


def numerically_close(gold: str, answer: str | None, relative: float) -> bool:
    """Whether `answer` without its unit equals `gold`; for an answer of None, whether `gold` can be read at all.

    Numbers have to lie within `relative` of the gold if one of them was rounded. Expressions are compared by their
    values where every symbol is positive, everything else as by `equivalent`.
    """
    return compare_lists(gold, answer, partial(_close_one, relative=relative))


def _close_one(gold: str, answer: str, relative: float) -> bool:
    left = next(iter(parse_answer(gold)), None)
    if is_scalar(left) and not left.free_symbols:
        answer = without_unit(normalize(answer), symbols=True)
    right = next(iter(parse_answer(answer)), None)
    left, right = _values(left, right)
    if is_scalar(left) and is_scalar(right) and left.free_symbols == right.free_symbols:
        rounded = left.has(sympy.Float) or right.has(sympy.Float)
        if rounded or left.free_symbols:
            within = relative if rounded else _EXACT_TOLERANCE
            close = [_close_at(point, left, right, within) for point in _POINTS]
            if None not in close:
                return all(close)
    return equal_answers(gold, answer)


def _values(gold: Parsed | None, answer: Parsed | None) -> tuple[Parsed | None, Parsed | None]:
    """The right sides of two equations for the same quantity, or of the gold alone if the answer is no equation."""
    if not isinstance(gold, sympy.Eq) or not _is_quantity(gold.lhs):
        return gold, answer
    if isinstance(answer, sympy.Eq):
        return (gold.rhs, answer.rhs) if gold.lhs == answer.lhs else (gold, answer)
    return gold.rhs, answer


def _is_quantity(side: sympy.Basic) -> bool:
    """A symbol, a function's value, or a derivative."""
    return isinstance(side, sympy.Symbol | AppliedUndef) or (isinstance(side, sympy.Pow) and side.exp.has(PRIME))


def _close_at(point: tuple[float, float], gold: sympy.Expr, answer: sympy.Expr, relative: float) -> bool | None:
    """Whether the values at `point` are within `relative` of the gold's; None if one of them is not finite."""
    left, right = _values_at(point, gold, answer)
    if left is None or right is None:
        return None
    return bool(abs(left - right) <= relative * abs(left))
