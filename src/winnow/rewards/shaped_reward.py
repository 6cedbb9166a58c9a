"""Shaped reward: that of the verdict and a penalty on the length, recorded as two parts. The verdict stays as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from winnow.rewards.length import LengthPenalty
from winnow.rewards.reward import JudgedGroup, Rewards, Settings
from winnow.rewards.reward_scale import RewardScale
from winnow.types import Completion, Finish, Prompt, Rewarded
from winnow.verdict import Judgement

VERDICT, LENGTH = "verdict", "length"


@dataclass(frozen=True)
class ShapedReward:
    """The sum of `scale` and `penalty`."""

    scale: RewardScale
    penalty: LengthPenalty

    @property
    def names(self) -> Sequence[str]:
        return (VERDICT, LENGTH)

    @property
    def success(self) -> Settings | None:
        return None

    def rewards_of(self, prompts: Sequence[Prompt], groups: Sequence[JudgedGroup], iteration: int) -> Rewards:
        found = [
            tuple(self._of(j, self._length_part(c)) for j, c in zip(group.judgements, group.completions, strict=True))
            for group in groups
        ]
        return Rewards(found, weights=(1.0, 1.0))

    def again(self, judgement: Judgement, before: Rewarded) -> Rewarded:
        return self._of(judgement, before.parts[LENGTH] or 0.0)

    def _length_part(self, completion: Completion) -> float:
        return self.penalty(len(completion.token_ids), completion.finish is Finish.LENGTH)

    def _of(self, judgement: Judgement, of_length: float) -> Rewarded:
        of_verdict = self.scale(judgement.verdict)
        return Rewarded(of_verdict + of_length, judgement, {VERDICT: of_verdict, LENGTH: of_length})
