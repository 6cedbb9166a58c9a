"""Results of checks: passed, failed or not applicable, each with its reason and the numbers behind it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import torch
from torch import Tensor

from winnow.errors import ConfigError
from winnow.visible_text import message

S = TypeVar("S")
TOLERANCE = 1e-9
"""The largest difference that counts as none, relative to the larger of 1 and the largest expected number. Checks
compute in float64, where other orders of summation give some 1e-15."""


class Outcome(StrEnum):
    """The end of a check; its value is the word that is printed."""

    PASSES = "passes"
    FAILS = "FAILS"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome, and the sentence that says why, with the numbers."""

    outcome: Outcome
    said: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check of one subject: a rule of an algorithm, or its whole objective."""

    subject: str
    check: str
    result: Result

    @property
    def failed(self) -> bool:
        return self.result.outcome is Outcome.FAILS

    def __str__(self) -> str:
        return f"  {self.result.outcome:<14}  {self.check:<22}  {self.result.said}"


@dataclass(frozen=True, slots=True)
class Check(Generic[S]):
    """A promise with a name, and the function that tests a subject for it."""

    name: str
    run: Callable[[S], Result]

    def __call__(self, subject: str, tested: S) -> Finding:
        """The finding; a rule that raises has failed, and the reason is what it raised."""
        try:
            result = self.run(tested)
        except ConfigError as error:
            result = fails(message(str(error)))
        except (Exception, SystemExit) as error:  # a rule that ends the program would end it with code 0
            result = fails(message(f"raised {type(error).__name__}: {error}"))
        return Finding(subject, self.name, result)


def passes(said: str) -> Result:
    return Result(Outcome.PASSES, said)


def fails(said: str) -> Result:
    return Result(Outcome.FAILS, said)


def not_applicable(said: str) -> Result:
    return Result(Outcome.NOT_APPLICABLE, said)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the larger of 1 and the largest expected number; NaN differs from all."""
    if found.shape != expected.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    apart = (found - expected).abs()
    apart = torch.where(found == expected, 0.0, apart)  # equal infinities
    size = expected[expected.isfinite()].abs().amax() if expected.isfinite().any() else torch.tensor(0.0)
    return float(torch.where(apart.isnan(), torch.inf, apart).amax() / size.clamp(min=1).double())


def same(pairs: Iterable[tuple[Tensor, Tensor]], holds: str, broken: str, tolerance: float = TOLERANCE) -> Result:
    """Whether each found tensor equals the expected one; `holds` and `broken` say what that means for the rule."""
    worst = max((difference(found, expected) for found, expected in pairs), default=0.0)
    if worst <= tolerance:
        return passes(f"{holds} (max difference {worst:.1e})")
    return fails(f"{broken} (max difference {worst:.3g}, allowed {tolerance:.0e})")


def first_failure(results: Sequence[Result]) -> Result:
    """The first result that is a failure, else the last."""
    return next((result for result in results if result.outcome is Outcome.FAILS), results[-1])
