r"""What counts as equal: one rule a benchmark. A rule sees the content of the last closed `\boxed{…}` and no other text."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from winnow.errors import ConfigError
from winnow.rewards.guards import MAX_CHARACTERS, refused, value_of
from winnow.rewards.literal import alike, clean, read_number, same_number, same_text
from winnow.rewards.members import matched, members
from winnow.rewards.units import without_unit


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
    check: ClassVar[str] = "winnow.rewards.math:equivalent"

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {}

    def settle(self, gold: str, answer: str) -> bool | None:
        if len(answer) > MAX_CHARACTERS:
            return gold == answer
        return _settle(clean(gold), clean(answer), symbols=False, relative=None)

    def readable(self, gold: str) -> bool | None:
        return True if read_number(clean(gold)) is not None else None


@dataclass(frozen=True)
class Numeric:
    """Measured quantities: rounded numbers within `relative` of the gold, units dropped, symbols taken as positive.

    Two integers or fractions are compared exactly, for neither was rounded. What is no number goes to math-verify.
    """

    relative: float = 1e-4  # QwenLM/Qwen2.5-Math, evaluation/grader.py, numeric_equal: isclose(…, rel_tol=1e-4)

    name: ClassVar[str] = "numeric"
    check: ClassVar[str] = "winnow.rewards.numeric:close"

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
        return _settle(clean(gold), clean(answer), symbols=True, relative=self.relative)

    def readable(self, gold: str) -> bool | None:
        return True if read_number(without_unit(clean(gold))) is not None else None


@dataclass(frozen=True)
class Exact:
    """Equal text, but for typography (`clean`). No worker is ever asked."""

    name: ClassVar[str] = "exact"
    check: ClassVar[str] = "winnow.rewards.literal:same_text"

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {}

    def settle(self, gold: str, answer: str) -> bool | None:
        return same_text(gold, answer)

    def readable(self, gold: str) -> bool | None:
        return bool(clean(gold))


def _settle(gold: str, answer: str, symbols: bool, relative: float | None) -> bool | None:
    """In this order: equal text is correct; two plain numbers are compared (`same_number`); an answer that a guard refuses is
    wrong; several answers are compared one by one. `symbols`: as for `without_unit`, of the answer to a number (the m of a
    gold may be a mass)."""
    if alike(gold, answer):
        return True
    left = read_number(without_unit(gold))
    right = read_number(without_unit(value_of(answer), symbols and left is not None))
    if left is not None and right is not None:
        return same_number(left, right, relative)
    if refused(gold, answer, left is not None):
        return False
    golds = [gold] if left is not None else members(gold)
    if len(golds) == 1:
        return None
    if right is not None:
        return False
    answers = members(answer)
    if len(answers) == 1:
        return None
    return matched(golds, answers, lambda one, other: _settle(one, other, symbols, relative))
