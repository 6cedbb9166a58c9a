"""Algorithms: RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO, PPO, iterative DPO and SFT, each composed from functions.

An algorithm is a decision on a (P, G) matrix of rewards (which samples are kept, with which advantage) and an objective
on (B, S) matrices of log-probabilities. Hydra builds these objects from the YAMLs in `conf/algo`. Equation numbers are
those of arXiv 2504.11343.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.errors import ConfigError
from winnow.objectives import (
    KL,
    UNUSED,
    AdaptiveEntropy,
    Aggregate,
    Clip,
    Estimator,
    PairRule,
    PolicyObjective,
    PreferenceObjective,
    Ratio,
    ReferenceKind,
    Sync,
    ValueObjective,
)
from winnow.ops import advantage as advantage_ops
from winnow.ops import clip as clip_ops
from winnow.ops import preference as preference_ops
from winnow.ops import ratio as ratio_ops
from winnow.ops import select as select_ops
from winnow.ops import tokens as token_ops
from winnow.ops.advantage import whiten_tokens
from winnow.rule import applied, called, given, mask_returned, reads, rule_of, spoken_name
from winnow.types import SampleFacts

Select = Callable[..., Bool[Tensor, "p g"]]
"""(P, G) rewards and verdicts → the samples to keep. Offered by name: the fields of `SampleFacts`."""
SelectPairs = Callable[..., Int[Tensor, "n 3"]]
"""As `Select`, but → N pairs (prompt, chosen, rejected)."""
Advantage = Callable[..., Float[Tensor, "p g"]]
"""(P, G) rewards of the verdicts → (P, G) advantages.

Offered by name: the fields of `SampleFacts`; with a KL term in the reward `penalty`, what it subtracts from each
reward; and `usable`, the (P, G) samples that there are. A rule that names the latter gets all prompts in one call, with
0 where a sample is not usable. Others are called for the prompts of each number of usable samples, with those alone.
"""
Gae = Callable[
    [Float[Tensor, "n s"], Float[Tensor, "n s"], Bool[Tensor, "n s"]],
    tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]],
]
Correction = Callable[..., Float[Tensor, "b s"]]
"""(B, S) ratios of trainer to sampler → the weight on each token's advantage. Offered by name: (B, S) `response` and
`advantage`."""
TokenChoice = Callable[..., Bool[Tensor, "n s"]]
"""(N, S) entropies and response masks → the tokens that keep their advantage. Offered by name: the sampler's (N, S)
`logprobs`, and `advantage`."""
Rejected = Literal["drop", "zero"]
Truncated = Literal["keep", "drop"]


def _named(select: Callable, facts: SampleFacts) -> dict[str, Tensor]:
    """The facts that a selection names beside the verdicts, which it has by position."""
    return given(select, **{name: value for name, value in facts.offered.items() if name != "correct"})


@dataclass(frozen=True, slots=True)
class PolicyUpdate:
    """The axes that `PolicyGradient` and `ActorCritic` share.

    With `rejected="drop"`, samples that are not selected leave the batch before any forward. With "zero" they stay, at
    advantage zero: they count in the denominator and are under the KL term and the entropy bonus (the released code).
    With `truncated="drop"`, responses that ended at the limit on their length are not selected, whatever the rule; they
    count in the statistics of their group (DAPO's overlong filtering).
    """

    select: Select
    ratio: Ratio
    clip: Clip
    aggregate: Aggregate
    kl: KL | None
    correction: Correction
    entropy: float | AdaptiveEntropy
    rejected: Rejected
    truncated: Truncated = field(default="keep", kw_only=True)
    tokens: TokenChoice = field(default=token_ops.every_token, kw_only=True)

    def __post_init__(self) -> None:
        if rule_of(self.select) is select_ops.extremes:
            raise ConfigError(
                "algo/select=extremes makes pairs, and this algorithm learns from single samples; type algo=dpo"
            )
        if not isinstance(self.kl, KL | None):
            raise ConfigError(f"algo.kl: a {type(self.kl).__name__} and no KL term; type algo/kl=k2, or algo/kl=none")
        if not self.objective.uses_ratio and rule_of(self.clip) is not clip_ops.unclipped:
            raise ConfigError("algo.clip: clipping needs a ratio to clip, and algo/ratio is none; add algo/clip=none")
        in_reward = self.objective.kl_in_reward
        if in_reward is not None and in_reward.weight == "ratio":
            raise ConfigError(
                "algo.kl.weight=ratio: in the reward, the KL is of the policy that samples, whose ratio is 1; "
                "type algo.kl.weight=none, or algo.kl.place=loss"
            )
        if in_reward is not None and in_reward.is_of_previous:
            raise ConfigError(
                "algo.kl: in the reward, the KL to the policy before the iteration's updates is zero; "
                "type algo.kl.reference=initial"
            )

    @property
    def objective(self) -> PolicyObjective:
        return PolicyObjective(self.ratio, self.clip, self.kl, self.entropy)

    def selected(self, rewards: Float[Tensor, "p g"], facts: SampleFacts) -> Bool[Tensor, "p g"]:
        """The samples that the algorithm keeps."""
        kept = called("select", self.select, rewards, facts.correct, **_named(self.select, facts))
        kept = mask_returned("select", self.select, kept, rewards)
        return kept & ~facts.truncated if self.truncated == "drop" else kept

    @property
    def chooses_tokens(self) -> bool:
        """Whether some tokens of a response may lose its advantage."""
        return rule_of(self.tokens) is not token_ops.every_token

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
        if self.objective.kl_in_reward is not None and not reads(self.advantage, "penalty"):
            raise ConfigError(
                f"algo.kl.place=reward: {spoken_name(self.advantage)} of algo.advantage takes no penalty; type "
                "algo/advantage=group, or algo.kl.place=loss; a rule of your own takes it by an argument `penalty`"
            )

    def advantages(
        self,
        rewards: Float[Tensor, "p g"],
        penalty: Float[Tensor, "p g"] | None,
        selected: Bool[Tensor, "p g"],
        facts: SampleFacts,
    ) -> Float[Tensor, "p g"]:
        """The advantage of each sample from the rewards of all samples; 0 where a sample is not selected.

        `penalty` is what a KL term in the reward subtracts, None without one. A sample whose reward or penalty is not
        finite counts as if it had not been drawn.
        """
        usable = rewards.isfinite() if penalty is None else rewards.isfinite() & penalty.isfinite()
        if usable.all():
            found = self._advantages(rewards, penalty, facts, usable)
        elif reads(self.advantage, "usable") and usable.any():
            filled = [None if of is None else torch.where(usable, of, 0.0) for of in (rewards, penalty)]
            assert filled[0] is not None
            known = replace(facts, parts=torch.where(usable.unsqueeze(2), facts.parts, 0.0))
            found = torch.where(usable, self._advantages(filled[0], filled[1], known, usable), 0.0)
        else:
            found = torch.zeros_like(rewards)
            for part in _parts(usable):
                subtracted = None if penalty is None else penalty[part]
                found[part] = self._advantages(rewards[part], subtracted, facts.at(part), usable[part])
        return torch.where(selected, found, 0.0)

    def _advantages(
        self, rewards: Float[Tensor, "p g"], penalty: Tensor | None, facts: SampleFacts, usable: Bool[Tensor, "p g"]
    ) -> Float[Tensor, "p g"]:
        more = {"penalty": penalty, "usable": usable, **facts.offered}
        return applied("advantage", self.advantage, rewards, like=rewards, **more)


def _parts(usable: Bool[Tensor, "p g"]) -> Iterator[tuple[Int[Tensor, "q h"], Int[Tensor, "q h"]]]:
    """Indices of (Q, H) parts of a (P, G) matrix: the prompts with H usable samples each, and those samples alone."""
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

    `preference` is the loss of a pair, and `divergence` the one that bounds the distance to the reference. The
    reference policy is the initial model, the previous policy, i.e. the one that drew the samples, or one that follows
    the policy by `sync`.
    """

    select: SelectPairs
    preference: PairRule
    divergence: Estimator
    beta: float
    smoothing: float
    reference: ReferenceKind
    sync: Sync = UNUSED

    def __post_init__(self) -> None:
        self.sync.refuse_unused(self.reference, "algo")
        if rule_of(self.select) is not select_ops.extremes:
            raise ConfigError("algo/select: algo=dpo learns from pairs; type algo/select=extremes, or another algo")
        if rule_of(self.preference) is preference_ops.exo and self.smoothing == 0:
            raise ConfigError(
                "algo/preference=exo compares with label probabilities that must not be 0; type algo.smoothing=0.001"
            )
        if rule_of(self.preference) is preference_ops.robust and self.smoothing == 0:
            raise ConfigError(
                "algo/preference=robust with algo.smoothing=0 is algo/preference=sigmoid; type algo.smoothing=0.1, the "
                "chance of a wrong label"
            )
        if self.smoothing != 0 and not reads(self.preference, "smoothing"):
            raise ConfigError(
                f"algo.smoothing={self.smoothing}: {spoken_name(self.preference)} of algo.preference does not "
                "read it; type algo.smoothing=0, or algo/preference=sigmoid"
            )
        if not 0 <= self.smoothing < 0.5:
            raise ConfigError(
                f"algo.smoothing={self.smoothing}: must be a probability of a wrong label in [0, 0.5); "
                "type algo.smoothing=0.1"
            )

    def pairs(self, rewards: Float[Tensor, "p g"], facts: SampleFacts) -> Int[Tensor, "n 3"]:
        """The preference pairs (prompt, chosen, rejected)."""
        found = called("select", self.select, rewards, facts.correct, **_named(self.select, facts))
        assert isinstance(found, Tensor)
        return found

    @property
    def objective(self) -> PreferenceObjective:
        return PreferenceObjective(self.preference, self.divergence, self.beta, self.smoothing)


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
