"""Verification rule that is a plain function of the gold and the answer."""

from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

from winnow.rewards.rules import Rule


@dataclass(frozen=True)
class Function(Rule):
    """The function `module:name` decides: (gold, answer) → whether they are equal.

    Both are text. It runs in the verifier's processes, within their limits of time and memory; an exception counts as a
    crash, and the answer as wrong.
    """

    function: str

    name: ClassVar[str] = "function"
    check: ClassVar[str] = "winnow.rewards.function_rule:decide"

    def settle(self, gold: str, answer: str) -> bool | None:
        return None

    def readable(self, gold: str) -> bool | None:
        return True


def decide(gold: str, answer: str | None, function: str) -> bool:
    """Whether `function` finds gold and answer equal; without an answer, whether the gold can be read, which it can."""
    if answer is None:
        return True
    module, _, name = function.partition(":")
    return bool(getattr(import_module(module), name)(gold, answer))
