"""An algorithm: a decision on a (P, G) matrix of rewards and an objective on (B, S) matrices of log-probabilities.

These are what a YAML of `conf/algo` builds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.errors import ConfigError
from winnow.objectives import KL, Aggregate, Clip, PolicyObjective, PreferenceObjective, Ratio, ValueObjective, rule_of
from winnow.ops import advantage as advantage_ops
from winnow.ops import clip as clip_ops
from winnow.ops import ratio as ratio_ops
from winnow.ops import select as select_ops
from winnow.ops.ratio import uncorrected

Select = Callable[[Float[Tensor, "p g"], Bool[Tensor, "p g"]], Bool[Tensor, "p g"]]
SelectPairs = Callable[[Float[Tensor, "p g"], Bool[Tensor, "p g"]], Int[Tensor, "n 3"]]
Advantage = Callable[[Float[Tensor, "p g"]], Float[Tensor, "p g"]]
Gae = Callable[
    [Float[Tensor, "n s"], Float[Tensor, "n s"], Bool[Tensor, "n s"]],
    tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]],
]
Correction = Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]
Rejected = Literal["drop", "zero"]


@dataclass(frozen=True, slots=True)
class PolicyGradient:
    """RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO: which samples, how much each, and how they move the policy.

    Under `rejected="drop"` samples that are not selected leave the batch before any forward; under "zero" they stay,
    with advantage zero, in the denominator and under KL and entropy (the released code).
    """

    select: Select
    advantage: Advantage
    ratio: Ratio
    clip: Clip
    aggregate: Aggregate
    kl: KL | None
    correction: Correction
    entropy: float
    rejected: Rejected

    def __post_init__(self) -> None:
        _refuse_pairs(self.select)
        _refuse_idle_clip(self.objective)
        _refuse_idle_kl(self.objective)
        if self.objective.kl_in_reward is not None and rule_of(self.advantage) is advantage_ops.one:
            raise ConfigError(
                "algo.kl.place=reward: algo/advantage=one does not read the reward; type algo.kl.place=loss"
            )
        if rule_of(self.advantage) is advantage_ops.gae:
            raise ConfigError("algo/advantage=gae needs a critic; type algo=ppo")

    @property
    def objective(self) -> PolicyObjective:
        return PolicyObjective(self.ratio, self.clip, self.kl, self.entropy)

    @property
    def uses_correction(self) -> bool:
        """Whether each token is weighed by what sampler and trainer disagree on."""
        return rule_of(self.correction) is not uncorrected

    def advantages(self, shaped: Float[Tensor, "p g"], selected: Bool[Tensor, "p g"]) -> Float[Tensor, "p g"]:
        """Everyone's advantage, from the shaped rewards of all samples; zero where not selected."""
        return torch.where(selected, self.advantage(shaped), 0.0)


@dataclass(frozen=True, slots=True)
class ActorCritic:
    """PPO: the advantage of each token comes from a critic, a model of its own.

    The critic's learning rate is `critic_lr_ratio` times the policy's.
    """

    select: Select
    advantage: Gae
    whiten: bool
    ratio: Ratio
    clip: Clip
    aggregate: Aggregate
    kl: KL | None
    correction: Correction
    entropy: float
    rejected: Rejected
    value_clip: float
    critic_lr_ratio: float

    def __post_init__(self) -> None:
        _refuse_pairs(self.select)
        _refuse_idle_clip(self.objective)
        _refuse_idle_kl(self.objective)
        if rule_of(self.advantage) is not advantage_ops.gae:
            raise ConfigError(
                "algo/advantage: algo=ppo has a critic, which only algo/advantage=gae uses; type algo=grpo"
            )

    @property
    def objective(self) -> PolicyObjective:
        return PolicyObjective(self.ratio, self.clip, self.kl, self.entropy)

    @property
    def uses_correction(self) -> bool:
        """Whether each token is weighed by what sampler and trainer disagree on."""
        return rule_of(self.correction) is not uncorrected

    @property
    def value_objective(self) -> ValueObjective:
        return ValueObjective(self.value_clip)


@dataclass(frozen=True, slots=True)
class Preference:
    """Iterative DPO: pairs from the run's own samples, against the initial model or the policy that drew them."""

    select: SelectPairs
    beta: float
    smoothing: float
    reference: Literal["initial", "previous"]

    def __post_init__(self) -> None:
        if rule_of(self.select) is not select_ops.extremes:
            raise ConfigError("algo/select: algo=dpo learns from pairs; type algo/select=extremes, or another algo")
        if not 0 <= self.smoothing < 0.5:
            raise ConfigError(
                f"algo.smoothing={self.smoothing}: a chance of a wrong label in [0, 0.5); type algo.smoothing=0.1"
            )

    @property
    def objective(self) -> PreferenceObjective:
        return PreferenceObjective(self.beta, self.smoothing)


@dataclass(frozen=True, slots=True)
class Supervised:
    """Maximum likelihood on demonstrations: Reinforce whose samples are given and whose advantage is one.

    Without `shuffle` they come in the order of the dataset: a curriculum.
    """

    aggregate: Aggregate
    shuffle: bool

    @property
    def objective(self) -> PolicyObjective:
        return PolicyObjective(ratio_ops.log_probability, clip_ops.unclipped, kl=None, entropy=0.0)


Algorithm = PolicyGradient | ActorCritic | Preference | Supervised


def _refuse_pairs(rule: Select) -> None:
    if rule_of(rule) is select_ops.extremes:
        raise ConfigError(
            "algo/select=extremes makes pairs, and this algorithm learns from single samples; type algo=dpo"
        )


def _refuse_idle_clip(objective: PolicyObjective) -> None:
    if not objective.uses_ratio and rule_of(objective.clip) is not clip_ops.unclipped:
        raise ConfigError("algo.clip: clipping needs a ratio to clip, and algo/ratio is none; add algo/clip=none")


def _refuse_idle_kl(objective: PolicyObjective) -> None:
    if objective.kl_in_reward is not None and objective.kl_in_reward.reference == "previous":
        raise ConfigError(
            "algo.kl: in the reward, the KL to the policy that drew the samples is zero; type algo.kl.reference=initial"
        )
