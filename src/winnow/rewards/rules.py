r"""Verification rules: decisions from text and plain numbers in-process, and the check that workers run for the rest.

The mathematical rules refuse some answers outright, because math-verify reads them more generously than a grader would.
Each guard stands for a reading that was observed: math-verify reads `\boxed{2 3}` as 5 (it adds up numbers that stand
side by side), `\boxed{2+3}` as 5 (a policy learns to copy the problem into the box), `\boxed{5=5}` and `\boxed{4=5}` as
5 (it takes the last side), also `\boxed{x=4=5}` where the gold is x = 5, `\boxed{5\text{ (or 6)}}` as 5, and 52 in any
base as 52. Guards take normalized text (`answers.text.normalize`) and microseconds.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Protocol

from winnow.errors import ConfigError
from winnow.rewards.answers.lists import match_answers, split_answers
from winnow.rewards.answers.number_bases import same_in_base
from winnow.rewards.answers.statements import is_statement
from winnow.rewards.answers.text import normalize, read_number, same_number, same_text, same_words, without_unit
from winnow.rewards.answers.written_numbers import same_clock

MAX_CHARACTERS, MAX_DEPTH = 2048, 64
"""Longer answers are only compared as text, and more deeply nested ones are refused."""


class Rule(Protocol):
    """Verification rule: what text and plain numbers can decide is settled in-process, the rest by a worker's check.

    Settling takes microseconds. The fields of a rule are its settings, and the keyword arguments of its check.
    """

    name: ClassVar[str]
    check: ClassVar[str]
    """The function that workers run, written "module:function": (gold, answer, **settings) -> bool. An answer of None
    asks whether the gold can be read."""

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return dict(vars(self))

    def settle(self, gold: str, answer: str) -> bool | None:
        """Whether the two are equal; None if only a worker can tell."""
        ...

    def readable(self, gold: str) -> bool | None:
        """Whether some answer can equal `gold`; None if only a worker can tell."""
        ...


@dataclass(frozen=True)
class MathVerify(Rule):
    r"""Mathematical equality: by text, by plain numbers compared exactly (`same_number`), and else by math-verify.

    Several answers (`1, 3`) are compared in any order, each once; tuples, intervals and coordinates keep their order.
    """

    name: ClassVar[str] = "math_verify"
    check: ClassVar[str] = "winnow.rewards.answers.symbolic:equivalent"

    def settle(self, gold: str, answer: str) -> bool | None:
        return _settle_mathematics(gold, answer, relative=None)

    def readable(self, gold: str) -> bool | None:
        return True if read_number(normalize(gold)) is not None else None


@dataclass(frozen=True)
class Numeric(Rule):
    """Equality of measured quantities: rounded numbers within `relative` of the gold, units dropped.

    Symbols are taken as positive. Two integers or fractions are compared exactly, because neither was rounded.
    Everything else goes to math-verify.
    """

    relative: float = 1e-4  # QwenLM/Qwen2.5-Math, evaluation/grader.py, numeric_equal: isclose(…, rel_tol=1e-4)

    name: ClassVar[str] = "numeric"
    check: ClassVar[str] = "winnow.rewards.answers.symbolic:numerically_close"

    def __post_init__(self) -> None:
        if not 0 <= self.relative < 1:
            raise ConfigError(
                f"verifier rule numeric: relative={self.relative} must be at least 0 and below 1; "
                "type e.g. relative=1e-4"
            )

    def settle(self, gold: str, answer: str) -> bool | None:
        return _settle_mathematics(gold, answer, self.relative)

    def readable(self, gold: str) -> bool | None:
        return True if read_number(without_unit(normalize(gold))) is not None else None


@dataclass(frozen=True)
class Exact(Rule):
    """Equality of normalized text. It never needs a worker."""

    name: ClassVar[str] = "exact"
    check: ClassVar[str] = "winnow.rewards.answers.text:same_text"

    def settle(self, gold: str, answer: str) -> bool | None:
        return same_text(gold, answer)

    def readable(self, gold: str) -> bool | None:
        return same_text(gold, None)


@dataclass(frozen=True)
class TaskScore(Rule):
    """A reasoning-gym task's own scorer, made binary: only the full score of 1 is correct.

    Some scorers give part of the score to any text that holds the answer, or to any text at all.
    """

    name: ClassVar[str] = "reasoning_gym"
    check: ClassVar[str] = "winnow.rewards.answers.procedural:full_score"

    def settle(self, gold: str, answer: str) -> bool | None:
        return None

    def readable(self, gold: str) -> bool | None:
        return gold.startswith("{")


def _settle_mathematics(gold: str, answer: str, relative: float | None) -> bool | None:
    if len(answer) > MAX_CHARACTERS:
        return gold == answer
    return _compare_in_process(normalize(gold), normalize(answer), relative)


def _compare_in_process(gold: str, answer: str, relative: float | None) -> bool | None:
    """Whether two normalized texts are equal; None if only a worker can tell.

    In this order: equal text is correct; two plain numbers are compared (`same_number`), and so are two numbers in a
    written base; an answer that a guard refuses is wrong; inequalities and sets are left to the worker; several answers
    are compared one by one. With a tolerance (`relative`) single-letter symbols of units are
    dropped as well, but only from the answer to a number, because the m of a gold may be a mass.
    """
    if same_words(gold, answer):
        return True
    gold_number = read_number(without_unit(gold))
    symbols = relative is not None and gold_number is not None
    answer_number = read_number(without_unit(value_of(answer), symbols))
    if gold_number is not None and answer_number is not None:
        return same_number(gold_number, answer_number, relative)
    if (settled := same_in_base(gold, value_of(answer))) is not None:
        return settled
    if (right := _LETTER.fullmatch(gold)) and (chosen := _EXPLAINED_LETTER.match(answer)):
        return right[1] == (chosen["text"] or chosen["plain"] or chosen["round"])
    if ":" in gold and (settled := same_clock(gold, answer)) is not None:
        return settled
    if is_refused(gold, answer, gold_number is not None):
        return False
    if gold_number is None and (is_statement(gold) or is_statement(answer)):
        return None
    golds = [gold] if gold_number is not None else split_answers(gold)
    answers = split_answers(answer)
    if len(golds) == 1:
        return False if answer.startswith("\\{") and len(set(answers)) > 1 else None
    if answer_number is not None:
        return False
    if len(answers) == 1:
        return None
    return match_answers(golds, answers, lambda one, other: _compare_in_process(one, other, relative))


_TEXT = r"\\(?:text(?:rm|bf|it|normal)?|mathrm|mathbf|mbox)\{"
_LETTER = re.compile(rf"(?:{_TEXT})?\(?([A-Z])\)?\}}?")
# A letter of a multiple choice with its text: "D. it cannot be A", "(D) none of these", "\textbf{(D)} 12". What begins
# with "or" is another choice and not a text.
_EXPLAINED_LETTER = re.compile(
    rf"(?:(?P<plain>[A-Z])[.:)]|\((?P<round>[A-Z])\)) ?(?!(?:or|and|not)\b)(?=[A-Za-z]{{2}})"
    rf"|{_TEXT}\(?(?P<text>[A-Z])\)?[.:]?\}} ?(?=[\dA-Za-z\\$(])(?!(?:or|and|not)\b|{_TEXT} ?(?:or|and|not)\b|\\[cp])"
)


def value_of(answer: str) -> str:
    r"""The value that `answer` names: `5` for `x=5`. An answer that names nothing is its own value."""
    name, _, value = answer.partition("=")
    return value if value and "=" not in value and _NAME.fullmatch(name) else answer


def is_refused(gold: str, answer: str, gold_is_number: bool) -> bool:
    """Whether a guard rejects `answer` for this gold. The answer must not be longer than `MAX_CHARACTERS`."""
    if _depth(answer) > MAX_DEPTH:
        return True
    if "'" in answer and _primes(answer) != _primes(gold) and ("'" in gold or "'''" in answer):
        return True
    if "=" in answer and not _may_equate(gold, answer):
        return True
    return gold_is_number and _has_several_numbers(answer)


def _primes(text: str) -> int:
    """The longest run of primes: the order of a derivative, which math-verify confuses."""
    return max(map(len, re.findall("'+", text)), default=0)


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest


_EQUALS = re.compile(r"(?<![\\<>!:])=")
# A name that stands alone since the last separator: x, \theta, x_{1}, f(x), (x,y), AB, \text{Area}, \angle ABC.
_NAME = re.compile(
    r"(?:^|[,;&{(\[]|\\\\|\b(?:and|or) ?|\})"
    r"(?:\\[A-Za-z]++ ?(?:\{[A-Za-z\s]*\})?[A-Za-z]*+|[A-Za-z]++|\((?:[A-Za-z],)+[A-Za-z]\))"
    r"'*(?:_(?:\w|\{[^{}]*\}))?(?:\([^()=]*\))?$"
)


def _may_equate(gold: str, answer: str) -> bool:
    r"""Whether the equations in `answer` are acceptable.

    Where the gold is no equation, an answer may only name its value, as is conventional (`x=5`); an equation between
    values (`5=5`, `2+3=5`, `x=4=5`) is not a value. Where the gold is an equation, so may the answer be, but a chain of
    equations must not be longer than the gold's.
    """
    if not _EQUALS.search(gold):
        return all(_NAME.search(answer[: equals.start()]) for equals in _EQUALS.finditer(answer))
    return _longest_chain(answer) <= _longest_chain(gold)


def _longest_chain(text: str) -> int:
    return max(len(_EQUALS.findall(member)) for member in split_answers(text))


_UNIT = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}\d]*\}(?:\^\{?\d\}?)?|\^\{?\\circ\}?")
_ONE_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:/\d+(?:\.\d*)?)?|\.\d+")
# Everything that may stand between numbers without making one expression of them: signs, spaces, brackets and words.
_BETWEEN_NUMBERS = re.compile(
    r"(?:[\s.,;+\-−*/(){}\[\]'\"&%]|\\(?:times|cdot|div|pm|mp|[lc]?dots|text\{[^{}]*\})|\\[\\{}%]|and|or)*"
)


def _has_several_numbers(answer: str) -> bool:
    """Two or more numbers with only signs, spaces and words between them: an unevaluated sum, a list, or a hedge."""
    answer = _UNIT.sub(" ", answer)
    return len(_ONE_NUMBER.findall(answer)) > 1 and _BETWEEN_NUMBERS.fullmatch(_ONE_NUMBER.sub("", answer)) is not None
