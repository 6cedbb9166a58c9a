r"""Families of values numbered by integers: `\{3k \mid k \in \mathbb{Z}\}`, `x = 1 + k\pi, k \in \mathbb{Z}`.

Only worker processes import this module.
"""

from dataclasses import dataclass
from typing import cast

import sympy

from winnow.rewards.answers.constants import equal_constants, is_constant
from winnow.rewards.answers.number_sets import BRACED, UnreadError, expression, halves_of_builder
from winnow.rewards.answers.statements import Chain, numbered_by, read_statement


@dataclass(frozen=True)
class Family:
    """The values of an expression where its parameter runs through `integers`: Z, N, or one of them with a sign."""

    value: sympy.Expr
    parameter: sympy.Symbol
    integers: str


def read_family(text: str) -> Family | None:
    """The family that a normalized text describes; None if it names no integers, or bounds them (`0<k<5`).

    Raises:
        UnreadError: it names some, but what they number cannot be read.
    """
    if (braced := BRACED.fullmatch(text)) and (halves := halves_of_builder(braced["inner"])) is not None:
        head, body = halves
        member = read_statement(head)
        if (numbered := numbered_by(body)) is not None and isinstance(member, Chain):
            return _family(*numbered, member.sides[0])
        numbered = numbered_by(f"{head},{body}")
        return _family(*numbered, None) if numbered is not None and numbered[0] == head else None
    numbered = numbered_by(text)
    return _family(*numbered, None) if numbered is not None else None


def _family(values: str, parameter: str, integers: str, member: str | None) -> Family | None:
    """The family of `x=3k` or `3k`, where `member` is the letter that the values are called, if that is known."""
    chain = read_statement(values)
    if not isinstance(chain, Chain) or chain.relations not in ((), ("=",)):
        return None
    if member is not None and (chain.relations != ("=",) or chain.sides[0] != member):
        raise UnreadError(values)
    value, letter = expression(chain.sides[-1]), expression(parameter)
    if not isinstance(letter, sympy.Symbol) or letter not in value.free_symbols:
        raise UnreadError(values)
    return Family(value, letter, integers)


def same_family(gold: Family, answer: Family) -> bool:
    """Whether two families have the same values.

    Over all integers, a + bk also equals a + b(k + 1) and a - bk. Anything else has to be the same expression.
    """
    if gold.integers != answer.integers:
        return False
    theirs = cast(sympy.Expr, answer.value.xreplace({answer.parameter: gold.parameter}))
    if sympy.expand(gold.value - theirs) == 0:
        return True
    steps = [sympy.expand(value).coeff(gold.parameter, 1) for value in (gold.value, theirs)]
    starts = [
        sympy.expand(value - step * gold.parameter) for value, step in zip((gold.value, theirs), steps, strict=True)
    ]
    if gold.integers != "Z" or not all(map(is_constant, [*steps, *starts])) or 0 in steps:
        return False
    if not any(equal_constants(steps[0], sign * steps[1]) for sign in (1, -1)):
        return False
    shift = (starts[0] - starts[1]) / steps[0]
    return equal_constants(shift, sympy.Integer(round(float(sympy.N(shift)))))
