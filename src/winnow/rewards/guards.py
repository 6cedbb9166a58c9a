r"""Answers that are refused on sight, because math-verify reads them more kindly than a grader would.

Each guard stands for a reading that was seen: `\boxed{2 3}` is 5 (numbers side by side are added up), `\boxed{2+3}` is 5 (a
policy learns to copy the problem into the box), `\boxed{5=5}` and `\boxed{4=5}` are 5 (the last side is taken), so is
`\boxed{x=4=5}` where the gold is x = 5, `\boxed{5\text{ (or 6)}}` is 5, and 52 in whatever base is 52. Guards work on `clean`
text, in-process, in microseconds.
"""

import re

from winnow.rewards.members import members

MAX_CHARACTERS, MAX_DEPTH = 2048, 64

_EQUALS = re.compile(r"(?<![\\<>!:])=")
_NAMED = (
    re.compile(  # a name, alone since the last separator: x, \theta, x_{1}, f(x), (x,y), AB, \text{Area}, \angle ABC
        r"(?:^|[,;&{(\[]|\\\\|\b(?:and|or) ?|\})"
        r"(?:\\[A-Za-z]++ ?(?:\{[A-Za-z\s]*\})?[A-Za-z]*+|[A-Za-z]++|\((?:[A-Za-z],)+[A-Za-z]\))"
        r"'*(?:_(?:\w|\{[^{}]*\}))?(?:\([^()=]*\))?$"
    )
)
_UNIT = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}\d]*\}(?:\^\{?\d\}?)?|\^\{?\\circ\}?")
_ONE_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:/\d+(?:\.\d*)?)?|\.\d+")
_BARE = re.compile(
    r"(?:[\s.,;+\-−*/(){}\[\]'\"&%]|\\(?:times|cdot|div|pm|mp|[lc]?dots|text\{[^{}]*\})|\\[\\{}%]|and|or)*"
)


_BASE = re.compile(r"[\dA-Fa-f]+_\{?(\d+)\}?")


def refused(gold: str, answer: str, gold_is_number: bool) -> bool:
    """Whether `answer` is none to a question whose answer is `gold`. Longer than `MAX_CHARACTERS` it must not come here."""
    if _depth(answer) > MAX_DEPTH:
        return True
    if "=" in answer and not _may_equate(gold, answer):
        return True
    if (base := _BASE.fullmatch(answer)) and base[1] != _base_of(gold):
        return True
    return gold_is_number and _several_numbers(answer)


def _may_equate(gold: str, answer: str) -> bool:
    """A value may be named, an equation put for an equation, but a chain of them only for a chain."""
    if not _EQUALS.search(gold):
        return _only_names_are_equated(answer)
    return _longest_chain(answer) <= _longest_chain(gold)


def _longest_chain(text: str) -> int:
    return max(len(_EQUALS.findall(member)) for member in members(text))


def _base_of(gold: str) -> str:
    """A number without one is decimal, as a gold; an answer may leave its base away."""
    return base[1] if (base := _BASE.fullmatch(gold)) else "10"


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest


def _only_names_are_equated(answer: str) -> bool:
    r"""`x=5` names its value, which is conventional; an equation between values (`5=5`, `2+3=5`, `x=4=5`) is no value."""
    return all(_NAMED.search(answer[: equals.start()]) for equals in _EQUALS.finditer(answer))


def value_of(answer: str) -> str:
    r"""`5` for `x=5`; an answer that names nothing is its own value."""
    name, _, value = answer.partition("=")
    return value if value and "=" not in value and _NAMED.fullmatch(name) else answer


def _several_numbers(answer: str) -> bool:
    """Two or more numbers with nothing but signs, space and words between: a sum left standing, a list, or a hedge."""
    answer = _UNIT.sub(" ", answer)
    return len(_ONE_NUMBER.findall(answer)) > 1 and _BARE.fullmatch(_ONE_NUMBER.sub("", answer)) is not None
