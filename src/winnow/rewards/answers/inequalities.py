r"""Equality of statements about numbers: inequalities turned round or split, their sets, and orders of several symbols.

Only worker processes import this module.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sympy

from winnow.rewards.answers.constants import is_constant
from winnow.rewards.answers.integer_families import Family, read_family, same_family
from winnow.rewards.answers.number_sets import UnreadError, oriented, read_set, same_numbers, solutions, symbols_of
from winnow.rewards.answers.statements import Chain, Either, Statement, chains, is_statement, read_statement

Item = TypeVar("Item")


@dataclass(frozen=True)
class Region:
    """A set of real numbers, and the symbol that ranges over it if the text names one."""

    numbers: sympy.Set
    symbol: str | None


@dataclass(frozen=True)
class Bound:
    """`difference` is positive, not negative, zero or not zero, as `relation` says: >, >=, = or !=."""

    difference: sympy.Expr
    relation: str


@dataclass(frozen=True)
class Ordering:
    """Bounds on several symbols: one of the alternatives holds, and in it every bound.

    `order` is the order of the symbols in a set of pairs, such as (x,y), if the text gives one.
    """

    alternatives: tuple[tuple[Bound, ...], ...]
    order: str = ""


def same_statement(gold: str, answer: str) -> bool | None:
    """Whether two normalized texts say the same about numbers; None unless one is a statement and both can be read.

    If both name the symbol that they are about, it has to be the same one.
    """
    if not (is_statement(gold) or is_statement(answer)):
        return None
    try:
        return _same(_described(gold), _described(answer))
    except (UnreadError, ValueError, TypeError, NotImplementedError, AttributeError):
        return None  # beyond these rules, and often beyond sympy; math-verify decides


def _described(text: str) -> Region | Ordering | Family:
    """The statement about numbers that a normalized text makes."""
    if (family := read_family(text)) is not None:
        return family
    if (pairs := _PAIRS.fullmatch(text)) is not None:
        return Ordering(_alternatives(read_statement(pairs["body"])), pairs["order"])
    statement = read_statement(text)
    if isinstance(statement, Chain) and statement.relations == ("=",) and _NAME_OF_SET.fullmatch(statement.sides[0]):
        return Region(read_set(statement.sides[1]), None)
    if not any(chain.relations for chain in chains(statement)):
        return Region(solutions(statement, None), None)
    symbols = symbols_of(statement)
    if len(symbols) == 1:
        symbol = symbols.pop()
        return Region(solutions(statement, symbol), str(symbol))
    return Ordering(_alternatives(statement))


_NAME_OF_SET = re.compile(r"[A-Z]|[a-z]|\\text\{[a-z ]+\}")
_PAIRS = re.compile(
    r"\\\{(?P<order>\([A-Za-z](?:,[A-Za-z])+\))(?:\\in ?\\mathbb\{R\}\^\{?\d\}?)?(?:\\mid ?|:|\|)(?P<body>.*)\\\}"
)


def _same(gold: Region | Ordering | Family, answer: Region | Ordering | Family) -> bool | None:
    if isinstance(gold, Region) and isinstance(answer, Region):
        if gold.symbol and answer.symbol and gold.symbol != answer.symbol:
            return False
        return same_numbers(gold.numbers, answer.numbers)
    if isinstance(gold, Ordering) and isinstance(answer, Ordering):
        if gold.order and answer.order and gold.order != answer.order:
            return False
        return _pair_off(gold.alternatives, answer.alternatives, lambda one, other: _pair_off(one, other, _same_bound))
    if isinstance(gold, Family) and isinstance(answer, Family):
        return same_family(gold, answer)
    return False


def _alternatives(statement: Statement) -> tuple[tuple[Bound, ...], ...]:
    if isinstance(statement, Either):
        return tuple(alternative for part in statement.parts for alternative in _alternatives(part))
    return (tuple(bound for chain in _conjuncts(statement) for bound in _bounds(chain)),)


def _conjuncts(statement: Statement) -> list[Chain]:
    if isinstance(statement, Chain):
        return [statement]
    if isinstance(statement, Either):
        raise UnreadError("alternatives inside of conditions")
    return [chain for part in statement.parts for chain in _conjuncts(part)]


def _bounds(chain: Chain) -> list[Bound]:
    if not chain.relations or {"in", "notin"} & set(chain.relations):
        raise UnreadError(str(chain))
    steps = zip(chain.sides[:-1], chain.relations, chain.sides[1:], strict=True)
    return [Bound(*oriented(*step)) for step in steps]


def _same_bound(one: Bound, other: Bound) -> bool:
    """Whether two bounds are equal up to a constant factor, which must be positive unless the relation is symmetric."""
    if one.relation != other.relation or other.difference == 0:
        return one == other
    factor = sympy.cancel(one.difference / other.difference)
    return is_constant(factor) and factor != 0 and (one.relation in ("=", "!=") or bool(factor > 0))


def _pair_off(ours: Sequence[Item], theirs: Sequence[Item], same: Callable[[Item, Item], bool]) -> bool:
    """Whether two collections pair off one to one, repetitions aside, by a relation that is an equivalence."""

    def distinct(items: Sequence[Item]) -> list[Item]:
        kept = list[Item]()
        for item in items:
            if not any(same(item, other) for other in kept):
                kept.append(item)
        return kept

    ours, theirs = distinct(ours), distinct(theirs)
    return len(ours) == len(theirs) and all(any(same(one, other) for other in theirs) for one in ours)
