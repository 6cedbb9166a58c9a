"""Figures as text: as many digits as a reader can use, minus signs that are minus signs."""

import math


def number(value: float, digits: int = 3) -> str:
    """Three significant digits: `0.0123`, `12.3`, `1230`, `1.2e-07`; `–` for what was not recorded."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    return f"{value:.{min(places, 6)}f}".replace("-", "−")


def signed(value: float, places: int = 1) -> str:
    """`+1.5`, `−0.3`."""
    return f"{value:+.{places}f}".replace("-", "−")


def interval(low: float, high: float, places: int = 1) -> str:
    """`(−0.3 to 1.2)`: with a dash it could not be told from a minus sign."""
    return f"({low:.{places}f} to {high:.{places}f})".replace("-", "−")


def count(number: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def bound(text: str) -> str:
    """With per cent signs held to their numbers, where a line may break."""
    return text.replace(" %", "\u00a0%")
