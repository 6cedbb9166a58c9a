"""Assumptions of a plan: numbers that nobody has measured for the run in question, each with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import isfinite

import yaml

from winnow.errors import ConfigError

MAY_BE_ZERO = ("context_bytes", "response_spread", "kept")
FARTHEST = 1e6
"""The largest factor between a stated number and one that is given: far beyond, arithmetic overflows."""
MOST = {"response_spread": 10.0, "kept": 1.0, "context_bytes": 1e15}
"""The largest value of those that such a factor does not bound."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """A number with the reason for it; `given` where the user typed it."""

    name: str
    value: float
    says: str
    given: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.value:g}: {'given; ' if self.given else ''}{self.says}"


class Assumptions:
    """The assumptions of a plan, which notes those that are read, so that a plan prints what it used and no more."""

    def __init__(self, known: Mapping[str, Assumption]) -> None:
        self._known = dict(known)
        self._read: dict[str, None] = {}

    def __getitem__(self, name: str) -> float:
        self._read[name] = None
        return self._known[name].value

    def used(self) -> list[Assumption]:
        """Those that were read, in the order of the file."""
        return [assumption for name, assumption in self._known.items() if name in self._read]


@cache
def _stated() -> dict[str, Assumption]:
    rows = yaml.safe_load((files("winnow") / "plan" / "assumptions.yaml").read_text())
    return {name: Assumption(name, float(row["value"]), row["says"]) for name, row in rows.items()}


def assumptions(given: Sequence[str] = ()) -> Assumptions:
    """The stated assumptions, with those replaced that `given` names as NAME=VALUE.

    Raises:
        ConfigError: an unknown name, no positive number, or one that is too far from the stated one.
    """
    known = dict(_stated())
    for words in given:
        name, _, text = words.partition("=")
        if name not in known:
            raise ConfigError(f"--assume {words}: no such assumption; known: {', '.join(known)}")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value) or value < 0 or (value == 0 and name not in MAY_BE_ZERO):
            raise ConfigError(f"--assume {words}: must be a number above 0; type --assume {name}={known[name].value:g}")
        least, most = known[name].value / FARTHEST, MOST.get(name, known[name].value * FARTHEST)
        if not (least <= value <= most or value == 0):
            raise ConfigError(
                f"--assume {words}: must be from {least:g} to {most:g}; type --assume {name}={known[name].value:g}"
            )
        known[name] = Assumption(name, value, known[name].says, given=True)
    return Assumptions(known)
