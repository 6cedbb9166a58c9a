r"""Statements about numbers, as text: inequalities, memberships, what "and" and "or" join, and the rows of a system.

`-1<x\le 4`, `x<1 \text{ or } x>3`, `x \in [1,2)`, `\begin{cases}x=1\\y=2\end{cases}`. All functions take normalized
text (`text.normalize`) and leave the mathematics to `regions`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

INEQUALITIES = {
    **dict.fromkeys(("<", r"\lt"), "<"),
    **dict.fromkeys((">", r"\gt"), ">"),
    **dict.fromkeys(("<=", r"\le", r"\leq", r"\leqslant", r"\leqq"), "<="),
    **dict.fromkeys((">=", r"\ge", r"\geq", r"\geqslant", r"\geqq"), ">="),
    **dict.fromkeys((r"\ne", r"\neq", r"\not=", "!="), "!="),
}
RELATIONS = INEQUALITIES | {"=": "=", r"\in": "in", r"\notin": "notin", r"\not\in": "notin"}
_NAMES = "|".join(sorted((re.escape(name) for name in RELATIONS), key=len, reverse=True))
_RELATION = re.compile(rf"(?:{_NAMES})(?![A-Za-z])|(?:<=|>=|!=|[<>=])")
_OPEN, _CLOSE = r"\\\{|\\lbrace|\\langle|[(\[{]", r"\\\}|\\rbrace|\\rangle|[)\]}]"
_WORD = r"(?:[,;]? ?\\(?:text|textrm|mathrm|mbox) ?\{{[,;]? ?{0} ?\}} ?|[,;]? ?\b{0}\b ?|[,;]? ?\\{1}(?![A-Za-z]) ?)"
_OR, _AND = _WORD.format("or", "(?:lor|vee)"), _WORD.format("(?:and|but)", "(?:land|wedge)")
_ABOUT_NUMBERS = re.compile(
    r"[<>]|!=|\\(?:[lg]eq?(?:slant|q)?|[lg]t|neq?|not|in|notin|cup|cap|setminus|mid|mathbb|emptyset)(?![A-Za-z])"
    r"|\\\{[^{}]*(?:[|:]|such that)|\breal(?: numbers?|s\b)"
)


@dataclass(frozen=True)
class Chain:
    """Expressions in a row with a relation between each two, such as -1 < x <= 4; a single one stands for itself."""

    sides: tuple[str, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Every:
    """Statements that hold together. `by_comma` says that only commas join them, which may also list alternatives."""

    parts: "tuple[Statement, ...]"
    by_comma: bool = False


@dataclass(frozen=True)
class Either:
    """Statements of which one holds."""

    parts: "tuple[Statement, ...]"


Statement = Chain | Every | Either


def is_statement(text: str) -> bool:
    r"""Whether `text` holds an inequality, a membership, a union, a set builder or a named set such as \mathbb{R}."""
    return _ABOUT_NUMBERS.search(text) is not None


def read_statement(text: str) -> Statement:
    """The structure of a statement: first split at "or", then at "and", then at commas, and last at relations.

    A union sign between inequalities is read as "or", and `x \\ne 1, 2` as `x \\ne 1, x \\ne 2`.
    """
    if (rows := rows_of_system(text)) is not None:
        return Every(tuple(map(read_statement, rows)))
    if len(parts := split_outside_brackets(text, _EITHER)) > 1:
        return Either(tuple(map(read_statement, parts)))
    if len(parts := split_outside_brackets(text, _BOTH)) > 1:
        return Every(tuple(map(read_statement, parts)))
    if len(parts := split_outside_brackets(text, _UNION)) > 1 and all(map(_INEQUALITY.search, parts)):
        return Either(tuple(map(read_statement, parts)))
    if len(parts := split_outside_brackets(text, _COMMA)) > 1:
        return Every(tuple(_chains_of_list(parts)), by_comma=True)
    return _chain(text)


def _chains_of_list(parts: list[str]) -> Iterator[Chain]:
    unequal: str | None = None
    for chain in map(_chain, parts):
        if chain.relations:
            unequal = chain.sides[0] if chain.relations == ("!=",) else None
        yield Chain((unequal, *chain.sides), ("!=",)) if unequal and not chain.relations else chain


def _chain(text: str) -> Chain:
    sides, start, relations = [], 0, []
    for token in _outside_brackets(text, _RELATIONS):
        sides.append(text[start : token.start].strip())
        relations.append(RELATIONS[token.text.strip()])
        start = token.end
    return Chain((*sides, text[start:].strip()), tuple(relations))


def chains(statement: Statement) -> list[Chain]:
    """All chains of a statement, in order."""
    if isinstance(statement, Chain):
        return [statement]
    return [chain for part in statement.parts for chain in chains(part)]


class _Token(NamedTuple):
    text: str
    start: int
    end: int


def bracketed(separator: str) -> re.Pattern[str]:
    """The pattern of brackets, of a separator, and of any other command or escaped character, which is passed over as
    a whole."""
    return re.compile(rf"(?P<separator>{separator})|(?P<open>{_OPEN})|(?P<close>{_CLOSE})|\\[A-Za-z]+|\\.")


_EITHER, _BOTH, _COMMA = bracketed(_OR), bracketed(_AND), bracketed("[,;] ?")
_RELATIONS = bracketed(_RELATION.pattern)
_UNION = bracketed(r"\\cup(?![A-Za-z]) ?")
_INEQUALITY = re.compile(r"[<>]|\\(?:[lg]eq?(?:slant)?|[lg]t|neq?)(?![A-Za-z])")


def _outside_brackets(text: str, pattern: re.Pattern[str]) -> Iterator[_Token]:
    depth = 0
    for token in pattern.finditer(text):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["separator"] and depth == 0:
            yield _Token(token[0], token.start(), token.end())


def split_outside_brackets(text: str, pattern: re.Pattern[str]) -> list[str]:
    """The parts of `text` between the separators of a `pattern` that stand outside all brackets."""
    parts, start = [], 0
    for token in _outside_brackets(text, pattern):
        parts.append(text[start : token.start].strip())
        start = token.end
    return [*parts, text[start:].strip()]


_SYSTEM = re.compile(
    r"(?:\\\{|\\left\\\{)?\\begin\{(?P<name>cases|aligned|array|gathered|align\*?)\}(?:\{[lcr| ]*\})?"
    r"(?P<rows>.*)\\end\{(?P=name)\}(?:\\right ?\.?)?"
)
_ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?\w+\}?)?)=([^=<>]+)")


def assignment(text: str) -> tuple[str, str] | None:
    """`x` and `1` for `x=1`; None for anything else."""
    return (found[1], found[2]) if (found := _ASSIGNMENT.fullmatch(text)) else None


def rows_of_system(text: str) -> list[str] | None:
    r"""The rows of a system of equations or inequalities, as in `\begin{cases}x=1\\y=2\end{cases}`.

    None for anything else, such as a function that is defined case by case, or a name that is given two values.
    """
    if r"\begin" not in text or not (system := _SYSTEM.fullmatch(text)):
        return None
    rows = [row.replace("&", "").strip().rstrip(",;") for row in re.split(r"\\\\(?:\[[^\]]*\])?", system["rows"])]
    rows = [row.strip() for row in rows if row.strip()]
    related = all(_RELATION.search(row) and r"\text" not in row and not re.search(r"\bif\b", row) for row in rows)
    names = [found[0] for row in rows if (found := assignment(row)) is not None]
    return rows if rows and related and len(names) == len(set(names)) else None


_NUMBERED_BY = re.compile(
    r"(?:[,;:]? ?\(?(?:\\(?:text|mbox|mathrm) ?\{[,;]? ?)?"
    r"(?:,? ?(?:where|for|with)(?: (?:all|any|some|every|each))?(?P<said> integers?)? ?)?\}? ?)?(?P<letter>[A-Za-z])"
    r"(?: ?\\in ?(?:\\mathbb ?\{?|\\mathbf ?\{?)?(?P<set>[ZN])"
    r"(?P<sign>\^\{?[+*]\}?|_\{?(?:[+0]|\\?[>g][eq]*=? ?0)\}?)?\}?"
    r"(?P<late>\^\{?[+*]\}?|_\{?[+0]\}?)?"
    r"| ?(?:\\(?:text|mbox|mathrm) ?\{)? ?(?:is |be |being )?(?:an |any )?integers?\.? ?\}?|(?(said)|(?!)) ?\}?)\)?$"
)
"""The end of a statement that numbers its values by the integers: `, k \\in \\mathbb{Z}`, `where k is an integer`."""


def numbered_by(text: str) -> tuple[str, str, str] | None:
    r"""`x=3k`, `k` and `Z` for `x=3k, k \in \mathbb{Z}`; None for a statement that names no integer at its end."""
    if not (found := _NUMBERED_BY.search(text)) or not text[: found.start()].strip(" ,;"):
        return None
    if found["set"] == "N" or found["sign"] or found["late"]:
        kind = f"{found['set']}{found['sign'] or found['late'] or ''}"
    else:
        kind = "Z"
    return text[: found.start()].strip(" ,;"), found["letter"], kind
