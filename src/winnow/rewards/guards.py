r"""Answers that are refused on sight, because math-verify reads them more kindly than a grader would.

Each guard stands for a reading that was seen: `\boxed{2 3}` is 5 (numbers side by side are added up), `\boxed{2+3}` is 5 (a
policy learns to copy the problem into the box), `\boxed{5=5}` and `\boxed{4=5}` are 5 (the last side is taken),
`\boxed{5\text{ (or 6)}}` is 5. Guards work on `clean` text, in-process, in microseconds.
"""

import re

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


def refused(gold: str, answer: str, gold_is_number: bool) -> bool:
    """Whether `answer` is none to a question whose answer is `gold`. Longer than `MAX_CHARACTERS` it must not come here."""
    if _depth(answer) > MAX_DEPTH:
        return True
    if "=" in answer and not _EQUALS.search(gold) and not _only_names_are_equated(answer):
        return True
    return gold_is_number and _several_numbers(answer)


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


def _several_numbers(answer: str) -> bool:
    """Two or more numbers with nothing but signs, space and words between: a sum left standing, a list, or a hedge."""
    answer = _UNIT.sub(" ", answer)
    return len(_ONE_NUMBER.findall(answer)) > 1 and _BARE.fullmatch(_ONE_NUMBER.sub("", answer)) is not None
