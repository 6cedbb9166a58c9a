"""Problems as text, before any tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass

from winnow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """`key` is unique in its dataset and names the problem in every seed; `solution` is a demonstration, if any."""

    key: str
    text: str
    answer: str
    solution: str | None = None


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Training problems, and held-out ones that training never sees."""

    name: str
    train: Sequence[Problem]
    heldout: Sequence[Problem]

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
