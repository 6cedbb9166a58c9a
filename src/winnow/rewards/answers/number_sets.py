r"""Sets of real numbers that texts name: intervals, unions, set builders, and inequalities in one symbol.

`1 > x \ge -2`, `[-2,1)` and `\{x \mid -2 \le x < 1\}` are one set. Only worker processes import this module.
"""

import re
from typing import cast

import sympy
from sympy.core.function import AppliedUndef

from winnow.rewards.answers.constants import equal_constants, exact, is_constant
from winnow.rewards.answers.parsed import parse_answer
from winnow.rewards.answers.statements import (
    Chain,
    Either,
    Every,
    Statement,
    bracketed,
    chains,
    read_statement,
    split_outside_brackets,
)
from winnow.rewards.answers.text import read_number


class UnreadError(Exception):
    """A text is no statement about numbers that can be read."""


def expression(text: str) -> sympy.Expr:
    """One side of a relation with decimals as fractions, and a function's value, such as g(x), as a symbol.

    Raises:
        UnreadError: it cannot be read.
    """
    if (number := read_number(text)) is not None and not number.percent:
        return sympy.Rational(number.value.numerator, number.value.denominator)
    if (sign := _INFINITE.fullmatch(text)) is not None:
        return -sympy.oo if sign[1] == "-" else sympy.oo
    found = next(iter(parse_answer(text)), None) if text else None
    if not isinstance(found, sympy.Expr) or isinstance(found, sympy.MatrixExpr):
        raise UnreadError(text)
    values = {call: sympy.Symbol(str(call), real=True) for call in found.atoms(AppliedUndef)}
    return exact(cast(sympy.Expr, found.xreplace(values)))


_INFINITE = re.compile(r"([+-]?)(?:\\infty|inf|infinity|oo)")


def _end(text: str) -> sympy.Expr:
    """The end of an interval or a member of a set: a real constant or an infinity."""
    found = expression(text)
    if found in (sympy.oo, -sympy.oo):
        return found
    if not is_constant(found) or found.is_extended_real is False:
        raise UnreadError(text)
    return found.doit()


def symbols_of(statement: Statement) -> set[sympy.Symbol]:
    """The symbols of a statement, without those inside the sets on the right of a membership."""
    found = set[sympy.Symbol]()
    for chain in chains(statement):
        for side, before in zip(chain.sides, ("", *chain.relations), strict=True):
            if before not in ("in", "notin") and chain.relations:
                found |= cast(set[sympy.Symbol], expression(side).free_symbols)
    return found


_UNION = bracketed(r"\\(?:big)?cup(?![A-Za-z]) ?")
_MEET = bracketed(r"\\(?:big)?cap(?![A-Za-z]) ?")
_WITHOUT = bracketed(r"\\(?:setminus|backslash|smallsetminus)(?![A-Za-z]) ?|(?:-|/)(?=\\\{)")
_COMMA = bracketed("[,;] ?")
_SUCH_THAT = bracketed(r"\\(?:mid|colon|vert)(?![A-Za-z]) ?|:|\\(?:text|mbox) ?\{ ?such that ?\} ?")
_NAMED = re.compile(
    r"\\math(?:bb|bf) ?\{? ?(?P<letter>[RZ]) ?\}?(?:[\^_](?:\{ ?(?P<which>[^{}]+?) ?\}|(?P<sign>[+*-])))?"
    r"|(?:\\text ?\{ ?)?(?P<said>(?:the )?(?:set of )?(?:all )?real(?:s|(?: numbers?)))\.? ?\}?"
)
_PARTS_OF_NUMBERS = {
    **dict.fromkeys(("+", ">0", r"\gt 0"), sympy.Interval.open(0, sympy.oo)),
    **dict.fromkeys(("-", "<0", r"\lt 0"), sympy.Interval.open(-sympy.oo, 0)),
    **dict.fromkeys((r"\ge 0", r"\geq 0", r"\geqslant 0", ">=0"), sympy.Interval(0, sympy.oo)),
    **dict.fromkeys((r"\le 0", r"\leq 0", r"\leqslant 0", "<=0"), sympy.Interval(-sympy.oo, 0)),
    **dict.fromkeys(("*", r"\ne 0", r"\neq 0"), sympy.Complement(sympy.S.Reals, sympy.FiniteSet(0))),
}
MAX_LISTED = 1000
"""Integers of a set that are written out to be compared with a list."""
_INTERVAL = re.compile(r"(?P<left>[(\[])(?P<inner>.*)(?P<right>[)\]])")
BRACED = re.compile(r"\\\{(?P<inner>.*)\\\}")
_LETTER = re.compile(r"[A-Za-z]|\\[a-z]+")


def read_set(text: str) -> sympy.Set:
    r"""The set that a text such as `(-\infty,2)\cup\{3\}` names.

    Raises:
        UnreadError: it names none that can be read.
    """
    if len(parts := split_outside_brackets(text, _UNION)) > 1:
        return sympy.Union(*map(read_set, parts))
    if len(parts := split_outside_brackets(text, _WITHOUT)) > 1:
        return sympy.Complement(read_set(parts[0]), sympy.Union(*map(read_set, parts[1:])))
    if len(parts := split_outside_brackets(text, _MEET)) > 1:
        return sympy.Intersection(*map(read_set, parts))
    if text == r"\emptyset":
        return sympy.S.EmptySet
    if (named := _NAMED.fullmatch(text)) is not None:
        return _named(named)
    if found := BRACED.fullmatch(text):
        if (halves := halves_of_builder(found["inner"])) is not None:
            return _built(*halves)
        return sympy.FiniteSet(*map(_end, split_outside_brackets(found["inner"], _COMMA)))
    found = _INTERVAL.fullmatch(text)
    ends = split_outside_brackets(found["inner"], _COMMA) if found else []
    if found is None or len(ends) != 2:
        raise UnreadError(text)
    return sympy.Interval(_end(ends[0]), _end(ends[1]), found["left"] == "(", found["right"] == ")")


def _named(found: re.Match[str]) -> sympy.Set:
    numbers = sympy.S.Integers if found["letter"] == "Z" else sympy.S.Reals
    which = found["which"] or found["sign"]
    if which is None:
        return numbers
    if which not in _PARTS_OF_NUMBERS:
        raise UnreadError(found[0])
    return sympy.Intersection(numbers, _PARTS_OF_NUMBERS[which])


def halves_of_builder(inner: str) -> tuple[str, str] | None:
    r"""`x` and `x>1` for the `x \mid x>1` inside a set builder's braces; None for a list of members."""
    parts = split_outside_brackets(inner, _SUCH_THAT)
    if len(parts) == 2:
        return parts[0], parts[1]
    head, bar, body = inner.partition("|")
    return (head.strip(), body.strip()) if bar and head.strip() else None


def _built(head: str, body: str) -> sympy.Set:
    """The set of all x, possibly in another set, for which a statement holds. Its symbol may have any name."""
    member = read_statement(head)
    if not isinstance(member, Chain) or not _LETTER.fullmatch(member.sides[0]):
        raise UnreadError(head)
    statement, symbol = read_statement(body), expression(member.sides[0])
    if member.relations not in ((), ("in",)) or symbols_of(statement) != {symbol}:
        raise UnreadError(body)
    found = solutions(statement, cast(sympy.Symbol, symbol))
    if member.relations == ():
        return found
    if _NATURAL.fullmatch(member.sides[1]):
        if found.contains(sympy.Integer(0)) is not sympy.false:
            raise UnreadError("whether 0 is a natural number")
        return sympy.Intersection(found, sympy.S.Naturals)
    return sympy.Intersection(found, read_set(member.sides[1]))


_NATURAL = re.compile(r"\\math(?:bb|bf) ?\{? ?N ?\}?(?:[\^_]\{?[+*]\}?)?")


def solutions(statement: Statement, symbol: sympy.Symbol | None) -> sympy.Set:
    """The values of `symbol` for which a statement about it alone holds; for None, what it names.

    It may name numbers, or sets, which stand for their union.

    A comma may mean "and" (`x > 1, x < 4`) or "or" (`x < 1, x > 4`). It means "and" unless nothing is left then.

    Raises:
        UnreadError: it is about something else.
    """
    if isinstance(statement, Chain):
        return read_set(statement.sides[0]) if symbol is None else _chain_solutions(statement, symbol)
    if symbol is None and isinstance(statement, Every):
        return sympy.FiniteSet(*(_end(side) for chain in chains(statement) for side in chain.sides))
    parts = [solutions(part, symbol) for part in statement.parts]
    if isinstance(statement, Either):
        return sympy.Union(*parts)
    together = sympy.Intersection(*parts)
    return sympy.Union(*parts) if statement.by_comma and together is sympy.S.EmptySet else together


def _chain_solutions(chain: Chain, symbol: sympy.Symbol) -> sympy.Set:
    if not chain.relations:
        raise UnreadError(chain.sides[0])
    steps = zip(chain.sides[:-1], chain.relations, chain.sides[1:], strict=True)
    return sympy.Intersection(*(_step_solutions(left, relation, right, symbol) for left, relation, right in steps))


def _step_solutions(left: str, relation: str, right: str, symbol: sympy.Symbol) -> sympy.Set:
    if relation in ("in", "notin"):
        if expression(left) != symbol:
            raise UnreadError(left)
        return read_set(right) if relation == "in" else sympy.Complement(sympy.S.Reals, read_set(right))
    difference, relation = oriented(left, relation, right)
    slope = difference.diff(symbol)
    if slope == 0 or not is_constant(slope):
        return {">": sympy.Gt, ">=": sympy.Ge, "=": sympy.Eq, "!=": sympy.Ne}[relation](difference, 0).as_set()
    zero = -difference.subs(symbol, 0) / slope
    if relation in ("=", "!="):
        point = sympy.FiniteSet(zero)
        return point if relation == "=" else sympy.Complement(sympy.S.Reals, point)
    strict = relation == ">"
    return sympy.Interval(zero, sympy.oo, strict, True) if slope > 0 else sympy.Interval(-sympy.oo, zero, True, strict)


def oriented(left: str, relation: str, right: str) -> tuple[sympy.Expr, str]:
    """A relation as a difference and how it compares with 0: one of >, >=, = and !=."""
    one, other = expression(left), expression(right)
    if relation in ("<", "<="):
        one, other, relation = other, one, relation.replace("<", ">")
    return sympy.expand(one - other), relation


def same_numbers(gold: sympy.Set, answer: sympy.Set) -> bool:
    """Whether two sets of intervals and points are equal, end by end.

    Raises:
        UnreadError: one of them consists of something else.
    """
    if gold == answer:
        return True
    ours, theirs = _pieces(gold), _pieces(answer)
    return len(ours) == len(theirs) and all(map(_same_piece, ours, theirs))


_Piece = tuple[sympy.Expr, sympy.Expr, bool, bool]
"""An interval: its ends, and whether each is left out."""


def _pieces(numbers: sympy.Set) -> list[_Piece]:
    """The intervals of a set in ascending order; a point is an interval without length."""
    if numbers is sympy.S.Reals:
        return [(-sympy.oo, sympy.oo, True, True)]
    pieces = list[_Piece]()
    for part in numbers.args if isinstance(numbers, sympy.Union) else (numbers,):
        if isinstance(part, sympy.Interval):
            start, end = cast(tuple[sympy.Expr, sympy.Expr], (part.start, part.end))
            pieces.append((start, end, bool(part.left_open), bool(part.right_open)))
        elif isinstance(part, sympy.FiniteSet) or (isinstance(part, sympy.Range) and _is_short(part)):
            pieces += [(cast(sympy.Expr, point), cast(sympy.Expr, point), False, False) for point in part]
        elif part is not sympy.S.EmptySet:
            raise UnreadError(str(part))
    return sorted(pieces, key=lambda piece: (sympy.N(piece[0], 30), sympy.N(piece[1], 30)))


def _is_short(found: sympy.Range) -> bool:
    return bool(found.is_finite_set) and found.size <= MAX_LISTED


def _same_piece(ours: _Piece, theirs: _Piece) -> bool:
    return ours[2:] == theirs[2:] and all(map(_same_end, ours[:2], theirs[:2]))


def _same_end(one: sympy.Expr, other: sympy.Expr) -> bool:
    infinite = {sympy.oo, -sympy.oo}
    return one == other or (one not in infinite and other not in infinite and equal_constants(one, other))
