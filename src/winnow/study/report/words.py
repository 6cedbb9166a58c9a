"""Figures as text, with minus signs that are minus signs."""


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
