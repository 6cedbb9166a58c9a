r"""Equality of elementary functions of real variables, by their values wherever they are real.

sympy does not simplify `\frac{1}{r_0}(1+\frac{r}{r_0})^{-3/2}` to `\sqrt{\frac{r_0}{r+r_0}}/(r+r_0)`, because the two
differ as complex functions. As functions of real numbers they have the same domain and the same values. Only worker
processes import this module.
"""

from itertools import product
from typing import cast

import sympy

from winnow.rewards.answers.constants import exact

MAX_SYMBOLS = 3
DIGITS = 40
SIZES = ("0.0073908513321", "0.7390851332151", "1.2020569031595", "73.908513321516", "7390851.3321516")
"""Absolute values at which functions are compared, far apart so that every term matters at one of them."""
ENOUGH = 12
"""Points at which both functions have to be real before they may be called equal."""
ELEMENTARY = (
    sympy.Add, sympy.Mul, sympy.Pow, sympy.exp, sympy.log, sympy.sin, sympy.cos, sympy.tan, sympy.Symbol, sympy.Number,
    sympy.NumberSymbol,
)  # fmt: skip


def same_real_function(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    r"""Whether two elementary expressions are real at the same points and have the same values there.

    The points take both signs, so that \sqrt{x^2} is not x, and 2\ln x not \ln x^2. False is also the answer for what
    cannot be told in this way: other functions, more than `MAX_SYMBOLS` symbols, or too few points.
    """
    gold, answer = exact(gold), exact(answer)
    symbols = sorted(cast(set[sympy.Symbol], gold.free_symbols), key=str)
    if gold.free_symbols != answer.free_symbols or not 1 <= len(symbols) <= MAX_SYMBOLS:
        return False
    if not all(isinstance(part, ELEMENTARY) for found in (gold, answer) for part in sympy.preorder_traversal(found)):
        return False
    real = 0
    for point in _points(len(symbols)):
        left, right = (_value(found, dict(zip(symbols, point, strict=True))) for found in (gold, answer))
        if (left is None) is not (right is None):
            return False
        if left is not None and right is not None:
            if abs(left - right) > sympy.Float(10) ** -(DIGITS - 15) * max(abs(left), abs(right)):
                return False
            real += 1
    return real >= ENOUGH


def _points(count: int) -> list[tuple[sympy.Rational, ...]]:
    """Points with every combination of signs and with unrelated coordinates of all sizes."""
    points = []
    for signs in product((1, -1), repeat=count):
        for shift in range(len(SIZES)):
            sizes = [sympy.Rational(SIZES[(shift + 2 * index) % len(SIZES)]) for index in range(count)]
            points.append(tuple(sign * size for sign, size in zip(signs, sizes, strict=True)))
    return points


def _value(found: sympy.Expr, point: dict[sympy.Symbol, sympy.Rational]) -> sympy.Float | None:
    """The value at a point; None where it is not real or not finite."""
    value = cast(sympy.Expr, found.xreplace(cast(dict, point))).evalf(DIGITS)
    real, imaginary = value.as_real_imag()
    if not (isinstance(real, sympy.Number) and isinstance(imaginary, sympy.Number) and real.is_finite):
        return None
    return cast(sympy.Float, real) if abs(imaginary) <= sympy.Float(10) ** -(DIGITS - 15) * abs(real) else None
