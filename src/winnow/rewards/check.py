"""Check of one answer by a rule, as a worker process makes it."""

from collections.abc import Callable, Mapping

from winnow.rewards.worker import load

Question = tuple[str, str | None]
"""A gold and an answer; None asks whether the gold can be read."""


def check_of(check: str, settings: Mapping[str, str | float | bool]) -> Callable[[Question], bool]:
    """The rule's check `module:name` as a function of a question."""
    function = load(check)
    return lambda question: bool(function(*question, **settings))
