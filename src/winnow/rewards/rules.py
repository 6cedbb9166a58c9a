r"""Answers that are refused on sight, because math-verify reads them more kindly than a grader would.

Each guard stands for a reading that was seen: `\boxed{2 3}` is 5 (numbers side by side are added up), `\boxed{2+3}` is 5 (a
policy learns to copy the problem into the box), `\boxed{5=5}` and `\boxed{4=5}` are 5 (the last side is taken), so is
`\boxed{x=4=5}` where the gold is x = 5, `\boxed{5\text{ (or 6)}}` is 5, and 52 in whatever base is 52. Guards work on `clean`
text, in-process, in microseconds.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Protocol

from winnow.errors import ConfigError
from winnow.rewards.answer_lists import match_answers, split_answers
from winnow.rewards.answer_text import normalize, read_number, same_number, same_text, same_words, without_unit

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset


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


def is_refused(gold: str, answer: str, gold_is_number: bool) -> bool:
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
    return max(len(_EQUALS.findall(member)) for member in split_answers(text))


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


class Rule(Protocol):
    """Answers by text and plain numbers what it can, here and in microseconds; names the workers' function for the rest."""

    name: ClassVar[str]
    check: ClassVar[str]
    """The workers' function, as "module:function" of (gold, answer, **settings) to bool; answer None asks whether the gold is
    readable."""

    @property
    def settings(self) -> dict[str, str | float | bool]: ...

    def settle(self, gold: str, answer: str) -> bool | None:
        """Whether the two are equal; None where it takes a worker."""
        ...

    def readable(self, gold: str) -> bool | None:
        """Whether some answer can equal `gold`; None where it takes a worker."""
        ...


@dataclass(frozen=True)
class MathVerify:
    r"""Equality as mathematics, by math-verify: equal text, plain numbers exactly (`same_number`), then algebra.

    Several answers (`1, 3`) are compared in any order, each once; tuples, intervals and coordinates keep theirs.
    """

    name: ClassVar[str] = "math_verify"
    check: ClassVar[str] = "winnow.rewards.symbolic:equivalent"

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {}

    def settle(self, gold: str, answer: str) -> bool | None:
        if len(answer) > MAX_CHARACTERS:
            return gold == answer
        return _compare_in_process(normalize(gold), normalize(answer), symbols=False, relative=None)

    def readable(self, gold: str) -> bool | None:
        return True if read_number(normalize(gold)) is not None else None


@dataclass(frozen=True)
class Numeric:
    """Measured quantities: rounded numbers within `relative` of the gold, units dropped, symbols taken as positive.

    Two integers or fractions are compared exactly, for neither was rounded. What is no number goes to math-verify.
    """

    relative: float = 1e-4  # QwenLM/Qwen2.5-Math, evaluation/grader.py, numeric_equal: isclose(…, rel_tol=1e-4)

    name: ClassVar[str] = "numeric"
    check: ClassVar[str] = "winnow.rewards.symbolic:numerically_close"

    def __post_init__(self) -> None:
        if not 0 <= self.relative < 1:
            raise ConfigError(
                f"verifier rule numeric: relative={self.relative} must be at least 0 and below 1; type e.g. relative=1e-4"
            )

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {"relative": self.relative}

    def settle(self, gold: str, answer: str) -> bool | None:
        if len(answer) > MAX_CHARACTERS:
            return gold == answer
        return _compare_in_process(normalize(gold), normalize(answer), symbols=True, relative=self.relative)

    def readable(self, gold: str) -> bool | None:
        return True if read_number(without_unit(normalize(gold))) is not None else None


@dataclass(frozen=True)
class Exact:
    """Equal text, but for typography (`clean`). No worker is ever asked."""

    name: ClassVar[str] = "exact"
    check: ClassVar[str] = "winnow.rewards.answer_text:same_text"

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {}

    def settle(self, gold: str, answer: str) -> bool | None:
        return same_text(gold, answer)

    def readable(self, gold: str) -> bool | None:
        return bool(normalize(gold))


def _compare_in_process(gold: str, answer: str, symbols: bool, relative: float | None) -> bool | None:
    """In this order: equal text is correct; two plain numbers are compared (`same_number`); an answer that a guard refuses is
    wrong; several answers are compared one by one. `symbols`: as for `without_unit`, of the answer to a number (the m of a
    gold may be a mass)."""
    if same_words(gold, answer):
        return True
    left = read_number(without_unit(gold))
    right = read_number(without_unit(value_of(answer), symbols and left is not None))
    if left is not None and right is not None:
        return same_number(left, right, relative)
    if is_refused(gold, answer, left is not None):
        return False
    golds = [gold] if left is not None else split_answers(gold)
    if len(golds) == 1:
        return None
    if right is not None:
        return False
    answers = split_answers(answer)
    if len(answers) == 1:
        return None
    return match_answers(golds, answers, lambda one, other: _compare_in_process(one, other, symbols, relative))


@dataclass(frozen=True)
class TaskScore:
    """The task's own scorer, made binary: some of them give part of the score to any text that holds the answer, or to any text."""

    name: ClassVar[str] = "reasoning_gym"
    check: ClassVar[str] = "winnow.rewards.rules:full_score"

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {}

    def settle(self, gold: str, answer: str) -> bool | None:
        return None

    def readable(self, gold: str) -> bool | None:
        return gold.startswith("{")


def full_score(gold: str, answer: str | None) -> bool:
    """Whether the scorer gives `answer` 1. For worker processes only: scorers raise, hang, and evaluate what they are given."""
    named = json.loads(gold)
    if answer is None:
        return True
    dataset = _reasoning_gym_task(named["task"], named["seed"], named["index"] + 1)
    return dataset.score_answer(answer, dataset[named["index"]]) == 1.0


@lru_cache(maxsize=256)
def _reasoning_gym_task(name: str, seed: int, size: int) -> "ProceduralDataset":
    from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

    return create_dataset(name, seed=seed, size=size)
