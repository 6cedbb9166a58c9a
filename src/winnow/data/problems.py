"""Problems as text, before any tokenizer."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


Overlap = Literal["drop", "keep"]

_TYPOGRAPHY = re.compile(r"\\left|\\right|\\displaystyle|\\[!,;: ()\[\]]|\\quad|\\qquad|[\s$~]+")


def normalized_text(problem: str) -> str:
    """What two prints of one problem share: case, white space and LaTeX's spacing do not tell problems apart."""
    return (
        _TYPOGRAPHY.sub("", problem.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")).casefold().strip(".?!")
    )


@dataclass(frozen=True, slots=True)
class ScreenedProblems:
    """The problems that stay. `overlaps` counts those found in each evaluation set, dropped or not."""

    problems: list[Problem]
    total: int
    too_long: int
    repeats: int
    overlaps: dict[str, int] = field(default_factory=dict)
    overlap: Overlap = "drop"

    def line(self, max_tokens: int | None) -> str:
        """`7,473 training problems; 3 longer than 512 tokens dropped; 2 repeated; 1 in math500, dropped`."""
        parts = [f"{self.total:,} training problems"]
        parts += (
            [f"{self.too_long:,} with a prompt of more than {max_tokens:,} tokens, dropped"] if self.too_long else []
        )
        parts += [f"{self.repeats:,} repeated, kept"] if self.repeats else []
        verb = "dropped" if self.overlap == "drop" else "kept"
        parts += [f"{count:,} in {name}, {verb}" for name, count in self.overlaps.items() if count]
        return "; ".join(parts if len(parts) > 1 else [*parts, "none too long, repeated or in an evaluation set"])


def screen_problems(
    problems: Sequence[Problem],
    evaluated: Mapping[str, Sequence[Problem]],
    overlap: Overlap,
    too_long: Callable[[Sequence[Problem]], Sequence[bool]],
) -> ScreenedProblems:
    """`evaluated` holds the problems of each evaluation set by its name.

    Equality is that of `same_text`: it finds copies, not paraphrases.

    Raises:
        ConfigError: nothing is left.
    """
    long = too_long(problems)
    texts = [normalized_text(problem.text) for problem in problems]
    sets = {name: {normalized_text(problem.text) for problem in theirs} for name, theirs in evaluated.items()}
    leaked = [any(text in theirs for theirs in sets.values()) for text in texts]
    kept = [
        problem
        for problem, is_long, is_leaked in zip(problems, long, leaked, strict=True)
        if not is_long and not (is_leaked and overlap == "drop")
    ]
    if not kept:
        raise ConfigError(
            f"dataset: none of {len(problems)} training problems is left: {sum(long)} too long, {sum(leaked)} in an "
            "evaluation set; type a larger rollout.max_prompt_tokens, another dataset, or dataset.overlap=keep"
        )
    return ScreenedProblems(
        kept,
        total=len(problems),
        too_long=sum(long),
        repeats=sum(count - 1 for count in Counter(texts).values()),
        overlaps={name: sum(text in theirs for text in texts) for name, theirs in sets.items()},
        overlap=overlap,
    )
