"""From verdicts to rewards."""

from dataclasses import dataclass
from math import isfinite

from winnow.errors import ConfigError
from winnow.rewards.verdict import Verdict


@dataclass(frozen=True)
class RewardScale:
    """What a correct answer, a wrong one and a missing one are worth. A check that timed out or crashed counts as wrong."""

    correct: float
    wrong: float
    no_answer: float

    def __post_init__(self) -> None:
        if not all(isfinite(value) for value in (self.correct, self.wrong, self.no_answer)):
            raise ConfigError(f"reward: {self} holds a number that is not finite; type e.g. reward=plus_minus_one")
        if self.correct <= max(self.wrong, self.no_answer):
            raise ConfigError(
                f"reward: correct={self.correct} must exceed wrong={self.wrong} and no_answer={self.no_answer};"
                " type e.g. reward=plus_minus_one"
            )

    def __call__(self, verdict: Verdict) -> float:
        if verdict is Verdict.correct:
            return self.correct
        return self.no_answer if verdict is Verdict.no_answer else self.wrong
