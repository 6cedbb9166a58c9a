r"""Equality of constants in closed form (`\frac{1}{2^{98}}`, `2-\sqrt{3}`), however small or large they are.

Only worker processes import this module.
"""

from fractions import Fraction
from math import inf, log10
from typing import cast

import sympy

MAX_MAGNITUDE = 10_000.0
"""Decimal digits before or after the point in any part of a constant that is compared; larger ones are equal only if
they are the same expression. Rational numbers may be `EXACT_FACTOR` times as long, as they are compared exactly."""
EXACT_FACTOR = 200
SPARE_DIGITS = 60
SHORT = 100.0
"""Constants whose parts have no more digits are simplified before; in longer ones sympy would look for the factors of
every integer under a root."""
_UNEVALUATED = (sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative)


def is_constant(found: object) -> bool:
    """Whether `found` is a number in closed form: no symbols, no integrals or sums that remain to be evaluated."""
    return (
        isinstance(found, sympy.Expr)
        and not isinstance(found, sympy.MatrixExpr)
        and not found.free_symbols
        and not found.has(*_UNEVALUATED, sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    )


def exact(found: sympy.Expr) -> sympy.Expr:
    """`found` with every decimal as the fraction that its digits say: 0.1 is 1/10, not the nearest float."""
    decimals = found.atoms(sympy.Float)
    fractions = {decimal: sympy.Rational(str(decimal)) for decimal in decimals}
    return cast(sympy.Expr, found.xreplace(fractions)) if decimals else found


def equal_constants(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    """Whether two constants are equal. What is too large to be evaluated is equal only to itself.

    Rational numbers are compared exactly, others by twice as many digits as the largest or smallest number in either of
    them has, and `SPARE_DIGITS` more, so that no tolerance hides a difference: 1 + 2^{-2020} differs from 1 in its
    608th digit, and is seen to.

    Raises:
        ValueError: one of them has no value, as 1/0 has none.
    """
    if gold == answer:
        return True
    gold, answer = exact(gold), exact(answer)
    size = max(magnitude(gold), magnitude(answer))
    if _is_rational(gold) and _is_rational(answer):
        return size <= MAX_MAGNITUDE * EXACT_FACTOR and gold.doit() == answer.doit()
    if size > MAX_MAGNITUDE:
        return False
    if size <= SHORT:
        gold, answer = gold.doit(), answer.doit()
    digits = int(2 * size) + SPARE_DIGITS
    left, right = _parts(gold, digits), _parts(answer, digits)
    scale = max(1, *map(abs, left), *map(abs, right))
    within = scale / Fraction(10) ** (digits - int(size / 2) - SPARE_DIGITS // 4)
    return all(abs(one - other) <= within for one, other in zip(left, right, strict=True))


def _parts(found: sympy.Expr, digits: int) -> tuple[Fraction, Fraction]:
    """The real and the imaginary part to that many digits."""
    parts = found.evalf(digits, maxn=2 * digits).as_real_imag()
    if not all(isinstance(part, sympy.Number) and part.is_finite for part in parts):
        raise ValueError(f"not a finite number: {parts}")
    real, imaginary = (cast(sympy.Rational, sympy.Rational(part)) for part in parts)
    return Fraction(real.p, real.q), Fraction(imaginary.p, imaginary.q)


def _is_rational(found: sympy.Expr) -> bool:
    """Whether `found` is made of integers by arithmetic, powers with integer exponents, factorials and binomials."""
    return all(
        part.is_Integer
        or part.is_Rational
        or isinstance(part, sympy.Add | sympy.Mul | sympy.factorial | sympy.binomial)
        or (isinstance(part, sympy.Pow) and _is_integer_power(part))
        for part in sympy.preorder_traversal(found)
    )


def _is_integer_power(power: sympy.Pow) -> bool:
    return all(
        part.is_Integer or isinstance(part, sympy.Add | sympy.Mul | sympy.Pow)
        for part in sympy.preorder_traversal(power.exp)
    )


def magnitude(found: sympy.Basic) -> float:
    """A bound on the decimal digits, before or after the point, of every number in `found`; infinite if it is unknown.

    It is estimated part by part, so that a tower of powers is found to be too large before anything computes it.
    """
    if isinstance(found, sympy.Rational):
        return log10(2) * max(found.p.bit_length(), found.q.bit_length())
    if isinstance(found, sympy.Float):
        return abs(log10(abs(float(found)))) + 16 if found else 16
    if not found.args:
        return 1.0
    sizes = [magnitude(part) for part in found.args]
    if isinstance(found, sympy.Pow):
        return _of_power(sizes[0], found.exp, sizes[1])
    if isinstance(found, sympy.exp):
        return _of_power(1.0, found.args[0], sizes[0])
    if isinstance(found, sympy.factorial | sympy.factorial2 | sympy.gamma | sympy.binomial):
        count = _rough_value(found.args[0], sizes[0])
        return max(*sizes, count * log10(count + 2)) + 1
    return sum(sizes)


def _of_power(base_size: float, exponent: sympy.Basic, exponent_size: float) -> float:
    return max(base_size, exponent_size) + base_size * _rough_value(exponent, exponent_size)


def _rough_value(found: sympy.Basic, size: float) -> float:
    """The absolute value of a part that has `size` digits; infinite if it is too large, or no number."""
    if size > 40:
        return inf
    value = abs(sympy.N(found, 8))
    return float(value) if value.is_number and value.is_finite else inf
