"""A rule about a value of a configuration, and the values that no setting may have."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from omegaconf import ListConfig

MOST = 1e12
"""The largest number that is accepted where a rule says nothing else."""
UNREADABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that no text of a configuration may hold: NUL and halves of a surrogate pair."""


@dataclass(frozen=True)
class Rule:
    """A test of a value, and the words that complete "KEY=VALUE: must be …"."""

    words: str
    holds: Callable[[Any], bool]
    most: float = MOST

    def or_null(self, words: str = "or null") -> "Rule":
        """The same rule, which null passes as well."""
        return Rule(f"{self.words}, {words}", lambda value: value is None or self.holds(value), self.most)

    def up_to(self, most: float) -> "Rule":
        """The same rule with another largest number."""
        return Rule(self.words, self.holds, most)

    def problem(self, value: object) -> str | None:
        """Why the value is not allowed, as the end of a message; None if it is."""
        return unusual(value, self.most) or (None if self.holds(value) else f"must be {self.words}")


def unusual(value: object, most: float = MOST) -> str | None:
    """Why no setting may have this value: a number that is not finite or too large, or a text that is none."""
    if isinstance(value, ListConfig | list | tuple):
        return next((problem for part in value if (problem := unusual(part, most))), None)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and not isfinite(value):
        return "must be a finite number"
    if isinstance(value, int | float) and abs(value) > most:
        return f"must be at most {most:,.0f}, whatever its sign" if value < 0 else f"must be at most {most:,.0f}"
    if isinstance(value, str) and UNREADABLE.search(value):
        return "must be text, without NUL or half of a surrogate pair"
    return None
