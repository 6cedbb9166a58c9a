r"""Answers that are several: `1, 3`, `x=1 \text{ or } x=3`, `\{1, 3\}`, `2 \pm 1`. Their order is free."""

import re
from collections.abc import Callable, Sequence

from winnow.rewards.answer_text import read_number

_SET = re.compile(r"(?:[A-Za-z](?:=|\\in ?))?\\\{(.*)\\\}")
_TOKEN = re.compile(
    r"(?P<open>\\\{|\\langle(?![A-Za-z])|[(\[{])|(?P<close>\\\}|\\rangle(?![A-Za-z])|[)\]}])"
    r"|(?P<separator>[,;]? ?(?:\\(?:text|mathrm|mbox)\{,? ?(?:and|or) ?\}|\b(?:and|or)\b) ?|[,;])|\\."
)
_BOTH_SIGNS = re.compile(r"\\(pm|mp)(?![A-Za-z]) ?")
_SIGN_OF = ({"pm": "+", "mp": "-"}, {"pm": "-", "mp": "+"})


def split_answers(text: str) -> list[str]:
    r"""The answers that `text` (`clean`) lists outside of brackets; `[text]` if it is one answer, as a tuple or an interval is.

    `a \pm b` lists two, the upper signs and the lower ones. A number with grouped digits (`1,234`) is one.
    """
    if read_number(text) is not None:
        return [text]
    whole = _SET.fullmatch(text)
    parts = _split_outside_brackets(whole[1] if whole else text)
    if not all(parts):
        return [text]
    return [signed for part in parts for signed in _signed(part)]


def match_answers(golds: Sequence[str], answers: Sequence[str], same: Callable[[str, str], bool | None]) -> bool | None:
    """Whether each gold has an answer of its own that is the `same`; None if that depends on pairs for which `same` is None.

    Where no gold comes twice the answers may: a set stays what it is. A gold that does comes as often among the answers.
    """
    if len(set(golds)) == len(golds):
        answers = list(dict.fromkeys(answers))
    if len(golds) != len(answers):
        return False
    found = [[same(gold, answer) for answer in answers] for gold in golds]
    if _is_perfect([[verdict is True for verdict in row] for row in found]):
        return True
    return None if _is_perfect([[verdict is not False for verdict in row] for row in found]) else False


def _split_outside_brackets(text: str) -> list[str]:
    depth, start, parts = 0, 0, []
    for token in _TOKEN.finditer(text):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["separator"] and not depth:
            parts.append(text[start : token.start()].strip())
            start = token.end()
    return [*parts, text[start:].strip()]


def _signed(text: str) -> list[str]:
    if not _BOTH_SIGNS.search(text):
        return [text]
    return [_BOTH_SIGNS.sub(lambda sign, signs=signs: signs[sign[1]], text) for signs in _SIGN_OF]


def _is_perfect(allowed: list[list[bool]]) -> bool:
    """Whether rows and columns can be paired off along True cells (augmenting paths)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, free in enumerate(allowed[row]):
            if free and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(allowed)))
