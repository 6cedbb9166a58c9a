"""What is measured, as named figures: a middle and how far it strays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Value = float | int | str
Figures = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Named:
    """A figure that a part leaves: its key in `latest.json`, what it says, its unit, and how many digits are worth showing."""

    key: str
    says: str
    unit: str = ""
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Skipped:
    """In words, why a part could not be measured here."""

    why: str


def spread(key: str, values: Sequence[float]) -> dict[str, float]:
    """`{key: median, key_low: least, key_high: greatest}` of one or more values."""
    return {key: median(values), f"{key}_low": min(values), f"{key}_high": max(values)}


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Pair by pair: what was measured side by side is divided before anything is averaged."""
    return [a / b for a, b in zip(above, below, strict=True)]
