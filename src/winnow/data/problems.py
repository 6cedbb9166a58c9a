"""Problems as text, before any tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from winnow.errors import ConfigError

BadGolds = Callable[[Sequence[str]], Sequence[int]]
"""Indices of the answers that the verifier cannot read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`key` is unique in its dataset and names the problem in every seed; `solution` is a demonstration, if any."""

    key: str
    text: str
    answer: str
    solution: str | None = None


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Training problems, and held-out ones that training never sees.

    `overlap` says what becomes of training problems that are in an evaluation set; None where they are made on demand,
    and disjoint by construction.
    """

    name: str
    train: Sequence[Problem]
    heldout: Sequence[Problem]
    overlap: Literal["drop", "keep"] | None = None

    def require_solutions(self) -> None:
        """For supervised learning. Problems made on demand always have one.

        Raises:
            ConfigError: the first training problem without.
        """
        if not isinstance(self.train, list):
            return
        for problem in self.train:
            if problem.solution is None:
                raise ConfigError(
                    f"{self.name}, {problem.key}: no solution to learn from; "
                    "type dataset.solution_field=… or choose another dataset"
                )


class ProblemSource(Protocol):
    """What `conf/dataset` builds."""

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """The problems; without `hold_out` all of a finite collection are for training, and benchmarks are evaluated on."""
        ...
