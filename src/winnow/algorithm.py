"""Algorithms: RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO, PPO, iterative DPO and SFT, each composed from functions.

An algorithm is a decision on a (P, G) matrix of rewards (which samples are kept, with which advantage) and an objective
on (B, S) matrices of log-probabilities. Hydra builds these objects from the YAMLs in `conf/algo`. Equation numbers are
those of arXiv 2504.11343.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.errors import ConfigError
from winnow.objectives import (
    KL,
    Aggregate,
    Clip,
    PolicyObjective,
    PreferenceObjective,
    Ratio,
    ValueObjective,
    returned,
    rule_of,
)
from winnow.ops import advantage as advantage_ops
from winnow.ops import clip as clip_ops
from winnow.ops import ratio as ratio_ops
from winnow.ops import select as select_ops
from winnow.ops.advantage import whiten_tokens

Select = Callable[[Float[Tensor, "p g"], Bool[Tensor, "p g"]], Bool[Tensor, "p g"]]
SelectPairs = Callable[[Float[Tensor, "p g"], Bool[Tensor, "p g"]], Int[Tensor, "n 3"]]
Advantage = Callable[..., Float[Tensor, "p g"]]
"""(P, G) rewards of the verdicts → (P, G) advantages. With a KL term in the reward, the keyword `penalty` holds what it
subtracts from each reward."""
Gae = Callable[
    [Float[Tensor, "n s"], Float[Tensor, "n s"], Bool[Tensor, "n s"]],
    tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]],
]
Correction = Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]
Rejected = Literal["drop", "zero"]


@dataclass(frozen=True, slots=True)
class PolicyUpdate:
    """The axes that `PolicyGradient` and `ActorCritic` share.

    With `rejected="drop"`, samples that are not selected leave the batch before any forward. With "zero" they stay, at
    advantage zero: they count in the denominator and are under the KL term and the entropy bonus (the released code).
    """

    select: Select
    ratio: Ratio
    clip: Clip
    aggregate: Aggregate
    kl: KL | None
    correction: Correction
    entropy: float
    rejected: Rejected

    def __post_init__(self) -> None:
        if rule_of(self.select) is select_ops.extremes:
            raise ConfigError(
                "algo/select=extremes makes pairs, and this algorithm learns from single samples; type algo=dpo"
            )
        if not self.objective.uses_ratio and rule_of(self.clip) is not clip_ops.unclipped:
            raise ConfigError("algo.clip: clipping needs a ratio to clip, and algo/ratio is none; add algo/clip=none")
        in_reward = self.objective.kl_in_reward
        if in_reward is not None and in_reward.reference == "previous":
            raise ConfigError(
                "algo.kl: in the reward, the KL to the policy that drew the samples is zero; "
                "type algo.kl.reference=initial"
            )

    @property
    def objective(self) -> PolicyObjective:
        return PolicyObjective(self.ratio, self.clip, self.kl, self.entropy)

    @property
    def uses_correction(self) -> bool:
        """Whether each token's advantage has a weight for the mismatch between sampler and trainer."""
        return rule_of(self.correction) is not ratio_ops.uncorrected


@dataclass(frozen=True, slots=True)
class PolicyGradient(PolicyUpdate):
    """Policy gradient with one advantage per response: RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO.

    RAFT (Eq. 1) is maximum likelihood on the best samples of each prompt: `select.best`, `advantage.one`, no ratio.
    RAFT++ (Eq. 6) is RAFT with importance ratio and clipping: `ratio.token` and `clip.ppo`.
    Reinforce (Eq. 5) keeps all samples and takes the reward itself as advantage.
    Reinforce-Rej (section 5.1) is Reinforce on the prompts whose samples are neither all correct nor all wrong.
    GRPO standardises the rewards within each prompt (`advantage.group`).
    """

    advantage: Advantage

    def __post_init__(self) -> None:
        # Not super(): inside a dataclass with slots it refers to the class before the slots were added, and fails.
        PolicyUpdate.__post_init__(self)
        if self.objective.kl_in_reward is not None and rule_of(self.advantage) is advantage_ops.one:
            raise ConfigError(
                "algo.kl.place=reward: algo/advantage=one does not read the reward; type algo.kl.place=loss"
            )
        if rule_of(self.advantage) is advantage_ops.gae:
            raise ConfigError("algo/advantage=gae needs a critic; type algo=ppo")
        if self.objective.kl_in_reward is not None and "penalty" not in signature(self.advantage).parameters:
            raise ConfigError(
                f"algo.kl.place=reward: {rule_of(self.advantage).__name__} of algo.advantage takes no penalty; "
                "add an argument `penalty` to it, or type algo.kl.place=loss"
            )

    def advantages(
        self,
        rewards: Float[Tensor, "p g"],
        penalty: Float[Tensor, "p g"] | None,
        selected: Bool[Tensor, "p g"],
    ) -> Float[Tensor, "p g"]:
        """The advantage of each sample from the rewards of all samples; 0 where a sample is not selected.

        `penalty` is what a KL term in the reward subtracts, None without one. A sample whose reward or penalty is not
        finite counts as if it had not been drawn.
        """
        usable = rewards.isfinite() if penalty is None else rewards.isfinite() & penalty.isfinite()
        found = torch.zeros_like(rewards)
        whole = (slice(None), slice(None))
        for part in (whole,) if usable.all() else self._parts(usable):
            given = {} if penalty is None else {"penalty": penalty[part]}
            result = self.advantage(rewards[part], **given)
            found[part] = returned("advantage", self.advantage, result, rewards[part])
        return torch.where(selected, found, 0.0)

    def _parts(self, usable: Bool[Tensor, "p g"]) -> Iterator[tuple[Int[Tensor, "q h"], Int[Tensor, "q h"]]]:
        """Indices of (Q, H) parts of a (P, G) matrix: the prompts with H usable samples each, and those samples alone.

        A rule that whitens over the whole iteration gets all usable samples as one prompt.
        """
        if rule_of(self.advantage) is advantage_ops.whitened:
            prompt, sample = usable.nonzero(as_tuple=True)
            yield prompt[None], sample[None]
            return
        count = usable.sum(1)
        for size in range(1, usable.shape[1] + 1):
            if len(rows := (count == size).nonzero().flatten()):
                yield rows[:, None].expand(-1, size), usable[rows].nonzero()[:, 1].view(-1, size)


@dataclass(frozen=True, slots=True)
class ActorCritic(PolicyUpdate):
    """PPO: a critic, which is a model of its own, gives each token its own advantage by GAE.

    With `whiten`, advantages are whitened over all response tokens of the iteration. `value_clip` bounds how far the
    value loss follows a value away from the old one. The critic's learning rate is `critic_lr_ratio` times the
    policy's.
    """

    advantage: Gae
    whiten: bool
    value_clip: float
    critic_lr_ratio: float

    def __post_init__(self) -> None:
        PolicyUpdate.__post_init__(self)
        if rule_of(self.advantage) is not advantage_ops.gae:
            raise ConfigError(
                "algo/advantage: algo=ppo has a critic, which only algo/advantage=gae uses; type algo=grpo"
            )

    def per_token(
        self,
        rewards: Float[Tensor, "n s"],
        penalty: Float[Tensor, "n s"] | None,
        values: Float[Tensor, "n s"],
        response: Bool[Tensor, "n s"],
    ) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]]:
        """The advantage and the return of each token; `penalty` is what a KL term subtracts from its reward."""
        shaped = rewards if penalty is None else rewards - penalty
        advantages, returns = self.advantage(shaped, values, response)
        if not self.whiten:
            return advantages, returns
        # GAE is linear in rewards and values, so that the penalty's share of the advantages is its own GAE.
        unshaped = None if penalty is None else self.advantage(rewards, values, response)[0]
        share = None if penalty is None else self.advantage(penalty, torch.zeros_like(values), response)[0]
        magnitude = torch.maximum(rewards.abs().amax(), values.abs().amax())
        return whiten_tokens(advantages, response, unshaped=unshaped, penalty=share, magnitude=magnitude), returns

    @property
    def value_objective(self) -> ValueObjective:
        return ValueObjective(self.value_clip)


@dataclass(frozen=True, slots=True)
class Preference:
    """Iterative DPO: preference pairs from the policy's own samples.

    The reference policy is the initial model or the previous policy, i.e. the one that drew the samples.
    """

    select: SelectPairs
    beta: float
    smoothing: float
    reference: Literal["initial", "previous"]

    def __post_init__(self) -> None:
        if rule_of(self.select) is not select_ops.extremes:
            raise ConfigError("algo/select: algo=dpo learns from pairs; type algo/select=extremes, or another algo")
        if not 0 <= self.smoothing < 0.5:
            raise ConfigError(
                f"algo.smoothing={self.smoothing}: must be a probability of a wrong label in [0, 0.5); "
                "type algo.smoothing=0.1"
            )

    @property
    def objective(self) -> PreferenceObjective:
        return PreferenceObjective(self.beta, self.smoothing)


@dataclass(frozen=True, slots=True)
class Supervised:
    """SFT: maximum likelihood on demonstrations, i.e. Reinforce on given responses, each with advantage 1.

    Without `shuffle` they come in the order of the dataset, as a curriculum.
    """

    aggregate: Aggregate
    shuffle: bool

    @property
    def objective(self) -> PolicyObjective:
        return PolicyObjective(ratio_ops.log_probability, clip_ops.unclipped, kl=None, entropy=0.0)


Algorithm = PolicyGradient | ActorCritic | Preference | Supervised
