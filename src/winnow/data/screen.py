"""Training problems that are too long, that come twice, or that are in an evaluation set: counted, and told."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from winnow.data.problems import Problem
from winnow.errors import ConfigError

Overlap = Literal["drop", "keep"]

_TYPOGRAPHY = re.compile(r"\\left|\\right|\\displaystyle|\\[!,;: ()\[\]]|\\quad|\\qquad|[\s$~]+")


def same_text(problem: str) -> str:
    """What two prints of one problem share: case, white space and LaTeX's spacing do not tell problems apart."""
    return (
        _TYPOGRAPHY.sub("", problem.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")).casefold().strip(".?!")
    )


@dataclass(frozen=True, slots=True)
class Screened:
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


def screen(
    problems: Sequence[Problem],
    evaluated: Mapping[str, Sequence[Problem]],
    overlap: Overlap,
    too_long: Callable[[Sequence[Problem]], Sequence[bool]],
) -> Screened:
    """`evaluated` holds the problems of each evaluation set by its name.

    Equality is that of `same_text`: it finds copies, not paraphrases.

    Raises:
        ConfigError: nothing is left.
    """
    long = too_long(problems)
    texts = [same_text(problem.text) for problem in problems]
    sets = {name: {same_text(problem.text) for problem in theirs} for name, theirs in evaluated.items()}
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
    return Screened(
        kept,
        total=len(problems),
        too_long=sum(long),
        repeats=sum(count - 1 for count in Counter(texts).values()),
        overlaps={name: sum(text in theirs for text in texts) for name, theirs in sets.items()},
        overlap=overlap,
    )
