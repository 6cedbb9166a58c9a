"""Reward scale: the reward of each verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from winnow.errors import ConfigError
from winnow.rewards.reward import JudgedGroup, Rewards, Settings
from winnow.types import Prompt, Rewarded
from winnow.verdict import Judgement, Verdict


@dataclass(frozen=True)
class RewardScale:
    """Rewards of a correct, a wrong and a missing answer. A check that timed out or crashed counts as wrong."""

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

    @property
    def names(self) -> Sequence[str]:
        return ()

    @property
    def success(self) -> Settings | None:
        return None

    def rewards_of(self, prompts: Sequence[Prompt], groups: Sequence[JudgedGroup], iteration: int) -> Rewards:
        return Rewards([tuple(Rewarded(self(j.verdict), j) for j in group.judgements) for group in groups])

    def again(self, judgement: Judgement, before: Rewarded) -> Rewarded:
        return Rewarded(self(judgement.verdict), judgement)
