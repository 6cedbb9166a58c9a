r"""Equivalence of a gold answer and an answer, by math-verify. Pure functions; only worker processes import this module.

Nothing here limits time or memory: math-verify's own limits use signals, which fail off the main thread and cannot stop a
computation in C. The process that runs these functions is what gets killed.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import TypeGuard, cast

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, Float, MatrixBase, MatrixExpr, Max, Number, Symbol

from winnow.rewards.literal import PlainNumber, clean, read_number, same_number

Parsed = Basic | MatrixBase

# The box alone is read: with math-verify's default configuration the last number of any text would do as its answer.
_BOX = (LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False),)
_SPELLINGS = (
    # math-verify reads 4.5e33 as 4.5·e·33,
    (re.compile(r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([+-]?\d+)(?![\w.^])"), r"\1\\cdot 10^{\2}"),
    (
        re.compile(r"(?<![A-Za-z\\])E_"),
        r"\\mathrm{E}_",
    ),  # and cannot read E_1 (Euler's number with a subscript),
    (re.compile(r"\\frac ?(\\[A-Za-z]+) ?(\w)"), r"\\frac{\1}{\2}"),  # or \frac\pi 2,
    (re.compile(r"\\?%$"), ""),  # or a box that ends in a per cent sign
)


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Parsed, ...]:
    """What math-verify makes of `text`; empty where it cannot be parsed."""
    usual = clean(text)
    for spelling, better in _SPELLINGS:
        usual = spelling.sub(better, usual)
    return _parse(usual) or _parse(text)


def _parse(text: str) -> tuple[Parsed, ...]:
    return tuple(parse(f"\\boxed{{{text}}}", _BOX, fallback_mode="no_fallback", parsing_timeout=None))  # pyright: ignore[reportArgumentType]


def equivalent(gold: str, answer: str | None) -> bool:
    """Whether `answer` equals `gold`, or, for None, whether `gold` can be read at all. Not symmetric: gold's form leads."""
    golds = read(gold)
    if answer is None or not golds:
        return answer is None and bool(golds)
    answers = read(answer)
    number = read_number(clean(gold))
    if number is not None and abs(number.value) < Fraction(1, 1000):
        answers = tuple(found for found in answers if not _another_small_number(number, found))
    for found in answers:
        if (settled := _by_numbers(golds[0], found)) is not None:
            return settled
    return bool(answers) and verify(list(golds), list(answers), timeout_seconds=None)


def _by_numbers(gold: Parsed, answer: Parsed) -> bool | None:
    """Spares math-verify's `simplify` (tens of milliseconds, sometimes seconds) where arithmetic tells in under one.

    Expressions whose values differ at a point are not equal; those whose difference expands to 0 are. Lone symbols are left
    to math-verify, which also reads them as words.
    """
    if not _is_scalar(gold) or not _is_scalar(answer):
        return None
    try:
        names = sorted({str(symbol) for symbol in gold.free_symbols | answer.free_symbols})
        point = {name: Float(0.7390851 + 0.2763932 * index) for index, name in enumerate(names)}
        left, right = _value_at(gold, point), _value_at(answer, point)
        if left is not None and right is not None and abs(left - right) > 1e-5 * Max(1, abs(left), abs(right)):
            return False
        return True if (gold - answer).expand() == 0 else None
    except Exception:  # sympy raises anything on what models write; math-verify guards each of its own steps
        return None


def _is_scalar(found: Parsed) -> TypeGuard[Expr]:
    return isinstance(found, Expr) and not isinstance(found, Symbol | MatrixExpr)


def _value_at(expression: Expr, point: dict[str, Float]) -> Expr | None:
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
