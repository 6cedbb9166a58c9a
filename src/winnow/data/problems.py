"""Problems as text, before any tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass


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
