r"""Lists of answers: `1, 3`, `x=1 \text{ or } x=3`, `\{1, 3\}`, `2 \pm 1` and the rows of a system, in any order."""

import re
from collections.abc import Callable, Sequence

from winnow.rewards.answers.statements import assignment, rows_of_system
from winnow.rewards.answers.text import read_number

# A set in escaped braces, with or without a name before it: \{1, 3\}, S=\{1, 3\}, x \in \{1, 3\}.
_SET = re.compile(r"(?:[A-Za-z](?:=|\\in ?))?\\\{(.*)\\\}")
# Brackets, the separators between answers (a comma, a semicolon, "and", "or"), and any other escaped character, which
# is matched so that it is passed over as a whole.
_TOKEN = re.compile(
    r"(?P<open>\\\{|\\langle(?![A-Za-z])|[(\[{])|(?P<close>\\\}|\\rangle(?![A-Za-z])|[)\]}])"
    r"|(?P<separator>[,;]? ?(?:\\(?:text|mathrm|mbox)\{,? ?(?:and|or) ?\}|\b(?:and|or)\b) ?|[,;])|\\."
)
_BOTH_SIGNS = re.compile(r"\\(pm|mp)(?![A-Za-z]) ?")
_SIGN_OF = ({"pm": "+", "mp": "-"}, {"pm": "-", "mp": "+"})


def split_answers(text: str) -> list[str]:
    r"""The answers that `text` lists outside of brackets, or `[text]` if it is a single answer.

    A tuple or an interval is a single answer. `text` is normalized (`text.normalize`). `a \pm b` lists two
    answers, one with the upper signs and one with the lower ones. A number with grouped digits (`1,234`) is one answer.
    """
    if read_number(text) is not None:
        return [text]
    if (rows := rows_of_system(text)) is not None:
        return rows
    whole = _SET.fullmatch(text)
    parts = _split_outside_brackets(whole[1] if whole else text)
    if not all(parts):
        return [text]
    return [signed for part in parts for signed in _both_signs(part)]


def tuple_of_assignments(text: str) -> str | None:
    """`(1,2)` for `x=1,y=2` in any order, the values in the order of their names; None for anything else."""
    found = [pair for part in split_answers(text) if (pair := assignment(part)) is not None]
    named = dict(found)
    if len(named) < 2 or len(named) < len(split_answers(text)):
        return None
    return f"({','.join(named[name] for name in sorted(named))})"


def match_answers(golds: Sequence[str], answers: Sequence[str], same: Callable[[str, str], bool | None]) -> bool | None:
    """Whether golds and answers can be paired one to one so that every pair is the `same`.

    None if the result depends on pairs for which `same` returns None. If all golds differ, repeated answers count once,
    because a set with a repeated member is the same set. If a gold is repeated, as a double root is, it has to be
    repeated as often among the answers.
    """
    if len(set(golds)) == len(golds):
        answers = list(dict.fromkeys(answers))
    if len(golds) != len(answers):
        return False
    found = [[same(gold, answer) for answer in answers] for gold in golds]
    if _has_perfect_matching([[verdict is True for verdict in row] for row in found]):
        return True
    return None if _has_perfect_matching([[verdict is not False for verdict in row] for row in found]) else False


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


def _both_signs(text: str) -> list[str]:
    if not _BOTH_SIGNS.search(text):
        return [text]
    return [_BOTH_SIGNS.sub(lambda sign, signs=signs: signs[sign[1]], text) for signs in _SIGN_OF]


def _has_perfect_matching(allowed: list[list[bool]]) -> bool:
    """Whether rows and columns can be paired off along True cells (bipartite matching by augmenting paths)."""
    row_of: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, free in enumerate(allowed[row]):
            if free and column not in seen:
                seen.add(column)
                if column not in row_of or place(row_of[column], seen):
                    row_of[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(allowed)))
