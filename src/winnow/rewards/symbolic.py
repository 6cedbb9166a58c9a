"""What an answer says, as sympy has it: math-verify's parser, told what it gets wrong. Only worker processes import this."""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from typing import TypeGuard, cast

from latex2sympy2_extended.logic import And as ExtendedAnd
from math_verify import LatexExtractionConfig, parse, verify
from sympy import (
    And,
    Basic,
    Derivative,
    Eq,
    Expr,
    FiniteSet,
    Float,
    I,
    Intersection,
    MatrixBase,
    MatrixExpr,
    Max,
    Number,
    Pow,
    Set,
    Symbol,
    Union,
)
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from winnow.rewards.answer_lists import match_answers, split_answers
from winnow.rewards.answer_text import DEGREE, PlainNumber, normalize, read_number, same_number, without_unit

Parsed = Basic | MatrixBase

# The box alone is read: with math-verify's default configuration the last number of any text would do as its answer. Its units
# are not used: it takes the m of 6m, the t of \frac{1}{m} t and all of E_{1}+2E_{2} that follows a \text or \mathrm for one.
_NORMALIZATION = replace(LatexExtractionConfig().normalization_config, units=False)
_BOX = (
    LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=_NORMALIZATION
    ),
)
_SPELLINGS = tuple(
    (re.compile(spelling), better)
    for spelling, better in (
        # math-verify reads 4.5e33 as 4.5·e·33, y' as y, E_1 and I_0 as e and i with nothing to follow,
        (r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([+-]?\d+)(?![\w.^])", r"\1\\cdot 10^{\2}"),
        (r"(?<=[A-Za-z)}])''", r"^{\\prime\\prime}"),
        (r"(?<=[A-Za-z)}])'", r"^{\\prime}"),
        (r"(?<![A-Za-z\\])([EI])_", r"\\mathcal{\1}_"),
        # and cannot read \frac\pi 2, m_{\max}, \hbar, numpy's names, or a box that ends in a per cent sign.
        (r"\\frac ?(\\[A-Za-z]+) ?(\w)", r"\\frac{\1}{\2}"),
        (r"_\{ ?\\(?:text|mathrm) ?\{([A-Za-z]+) ?\} ?\}", r"_{\1}"),
        (r"_(?:\{ ?\\(max|min|odot|oplus) ?\}|\\(max|min|odot|oplus)(?![A-Za-z]))", r"_{\1\2}"),
        (r"\\hbar(?![A-Za-z])", r"h_{bar}"),
        (r"\bnp\.(?=[a-z])", r"\\"),
        (r"\\?%$", ""),
        (DEGREE, ""),
    )
)


@lru_cache(maxsize=4096)
def parse_answer(text: str) -> tuple[Parsed, ...]:
    """What math-verify makes of `text`; empty where it cannot be parsed."""
    usual = without_unit(normalize(text))
    for spelling, better in _SPELLINGS:
        usual = spelling.sub(better, usual)
    return tuple(_in_our_symbols(found) for found in _parse_latex(usual) or _parse_latex(text))


def _parse_latex(text: str) -> tuple[Parsed, ...]:
    return tuple(parse(f"\\boxed{{{text}}}", _BOX, fallback_mode="no_fallback", parsing_timeout=None))  # pyright: ignore[reportArgumentType]


PRIME = Symbol("prime", real=True)  # x' is read as a power of x, which is as good a name as any


def _in_our_symbols(found: Parsed) -> Parsed:
    """i is the imaginary unit, every other symbol real, dx/dt what x' is. math-verify guesses from the text whether it is complex,
    so that the i of 9i and the i of 9 i are two symbols; and to it the derivative of a symbol is 0, whatever the equation."""
    ours: dict[Basic, Basic] = {}
    for symbol in found.free_symbols:
        name = str(symbol)
        if name == "i":
            ours[symbol] = I
        elif not symbol.is_real:
            ours[symbol] = Symbol(name, real=True)
    for rate in cast(set[Derivative], found.atoms(Derivative)):
        ours[rate] = rate.expr.xreplace(ours) ** (PRIME**rate.derivative_count)
    return cast(Parsed, found.xreplace(ours)) if ours and found not in ours else found


def equivalent(gold: str, answer: str | None) -> bool:
    """Whether `answer` equals `gold`, or, for None, whether `gold` can be read at all. Not symmetric: gold's form leads.

    Several answers are compared one by one, in any order.
    """
    return compare_lists(gold, answer, equal_answers)


def compare_lists(gold: str, answer: str | None, same: Callable[[str, str], bool]) -> bool:
    golds = split_answers(normalize(gold))
    if answer is None:
        return all(map(parse_answer, golds)) or bool(parse_answer(gold))
    answers = split_answers(normalize(answer))
    if len(golds) > 1 and len(answers) > 1:
        return match_answers(golds, answers, same) is True
    return same(gold, answer)


def equal_answers(gold: str, answer: str) -> bool:
    if not (golds := parse_answer(gold)):
        return False
    answers = tuple(_renamed(found, golds[0]) for found in parse_answer(answer))
    number = read_number(normalize(gold))
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


_EXACT_TOLERANCE = 1e-9  # of two values of one expression in floating point
# Where expressions are compared: the first symbol's value, the step to the next. Far apart, so that every term and every step of a
# floor matters at one of them, and a tolerance hides none.
_POINTS = ((0.0073908, 0.0027639), (0.7390851, 0.2763932), (1.2020569, 0.5772157), (73.90851, 27.63932))


def numerically_close(gold: str, answer: str | None, relative: float) -> bool:
    """Whether `answer` less its unit equals `gold`: numbers within `relative` of the gold where either was rounded,
    expressions by their values where every symbol is positive, anything else as `math.equivalent` has it."""
    return compare_lists(gold, answer, partial(_close_one, relative=relative))


def _close_one(gold: str, answer: str, relative: float) -> bool:
    left = next(iter(parse_answer(gold)), None)
    if is_scalar(left) and not left.free_symbols:
        answer = without_unit(normalize(answer), symbols=True)
    right = next(iter(parse_answer(answer)), None)
    left, right = _values(left, right)
    if is_scalar(left) and is_scalar(right) and left.free_symbols == right.free_symbols:
        rounded = left.has(Float) or right.has(Float)
        if rounded or left.free_symbols:
            within = relative if rounded else _EXACT_TOLERANCE
            close_by = [_close_at(left, right, within, *point) for point in _POINTS]
            if None not in close_by:
                return all(close_by)
    return equal_answers(gold, answer)


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
