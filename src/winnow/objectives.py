"""Objectives: the losses of policy gradient, value function and DPO for one micro-batch, composed from `ops`.

loss = − Σ weight · surrogate(ratio, advantage) / denominator + β · KL − c · entropy. All three terms run over the same
rows with the same weights and the same denominator, all of which come with the batch. The denominator is that of the
whole optimiser batch, so that the losses of its micro-batches add up to the loss of the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.errors import ConfigError
from winnow.ops import kl as kl_ops
from winnow.ops import ratio as ratio_ops
from winnow.ops.value import clipped_value_loss
from winnow.rule import applied, reads, rule_of
from winnow.types import Batch, Loss, Mean, PairBatch

Ratio = Callable[..., Float[Tensor, "b s"]]
"""(B, S) `logprobs`, `old` and `response` → the quantity that the advantage multiplies. Offered by name: the (B, S)
`advantage`."""
Clip = Callable[..., Float[Tensor, "b s"]]
"""(B, S) ratio and advantage → the surrogate. Offered by name: `logprobs`, `old` and `response`, as for a ratio, and
`sampled`, the sampler's log-probabilities, which are the old ones where it is exactly the policy."""
Aggregate = Callable[..., tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]
"""(N,) lengths → the weight of each row's tokens, and its part of the denominator. Offered by name: `prompts`, (N,)
numbers that are equal for rows of one prompt."""
Estimator = Callable[[Tensor], Tensor]
PairRule = Callable[..., Float[Tensor, " b"]]
"""(B,) scores of the chosen and of the rejected responses, and β → the loss of each pair. Offered by name: `smoothing`,
and the (B,) `chosen_lengths` and `rejected_lengths`."""
ReferenceKind = Literal["initial", "previous", "synced"]
"""A reference policy: the initial model, the one that drew the iteration's samples, or one that follows the policy."""


@dataclass(frozen=True, slots=True)
class Sync:
    """The rule of a reference policy that follows the policy: after every so many iterations, by a share of the way.

    Each of its weights becomes share · the policy's + (1 − share) · its own. A share of 1 is a reset (ProRL, arXiv
    2505.24864), a smaller one a moving average (TR-DPO, arXiv 2404.09656).
    """

    every: int = 100
    share: float = 1.0

    def is_due(self, iteration: int) -> bool:
        """Whether the reference moves after `iteration`, counted from 1."""
        return iteration % self.every == 0

    def plain(self, reference: ReferenceKind) -> ReferenceKind:
        """The kind of a reference under this rule: one that becomes the policy every time is the previous policy."""
        return "previous" if reference == "synced" and self == Sync(every=1, share=1.0) else reference

    def refuse_unused(self, reference: ReferenceKind, section: str) -> None:
        """Refuse settings of a rule that nothing follows, in the configuration's `section`.

        Raises:
            ConfigError: what to type instead.
        """
        if reference != "synced" and self != UNUSED:
            raise ConfigError(
                f"{section}.sync: with {section}.reference={reference} no reference policy follows it; "
                f"type {section}.reference=synced, or leave it out"
            )


UNUSED = Sync()
"""The rule where no reference policy follows one."""


@dataclass(frozen=True, slots=True)
class KL:
    """A KL penalty against a reference policy, of coefficient β = `coef`.

    With `place="loss"` the estimate is a term of the loss and is differentiated; with "reward" it is a number
    subtracted from the reward. `reference` is the initial model, the previous policy, i.e. the one that drew this
    iteration's samples, or one that follows the policy by `sync`. `clamp` bounds the absolute value of each token's
    estimate (released code: 10). With `weight="ratio"` each token's estimate in the loss is multiplied by its
    importance ratio π/π_old, which makes the estimate unbiased at a policy that has moved from the one that sampled
    (DeepSeek-V3.2, arXiv 2512.02556).
    """

    estimator: Estimator
    coef: float
    place: Literal["loss", "reward"] = "loss"
    reference: ReferenceKind = "initial"
    clamp: float | None = None
    weight: Literal["none", "ratio"] = "none"
    sync: Sync = UNUSED

    def __post_init__(self) -> None:
        self.sync.refuse_unused(self.reference, "algo.kl")

    @property
    def is_of_previous(self) -> bool:
        """Whether the reference is the policy before the iteration's updates."""
        return self.sync.plain(self.reference) == "previous"

    def __call__(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        """The estimate of each token's KL, in the shape of `logprobs`, without the coefficient."""
        estimate = applied("kl", self.estimator, logprobs - reference, like=logprobs)
        return estimate if self.clamp is None else estimate.clamp(-self.clamp, self.clamp)


def no_kl() -> None:
    """No KL term and no reference policy."""


@dataclass(eq=False)
class AdaptiveEntropy:
    """A coefficient of the entropy bonus that pushes the sampler's entropy towards a target (Skywork-OR1, 2505.22312).

    In an iteration whose samples have an entropy (nats a token) of at most `target`, the bonus counts with the
    coefficient, and after it the coefficient is `step` larger. In others it counts with 0, and the coefficient is then
    `step` smaller. It stays from `low` to `high`, and begins at `start`.
    """

    target: float
    step: float
    low: float
    high: float
    start: float
    coef: float = field(init=False)
    """The state: the coefficient of an iteration whose entropy is low enough."""
    applied: float = field(init=False, default=0.0)
    """The coefficient in the present iteration's loss."""
    _entropy: float = field(init=False, default=math.nan)

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high:
            raise ConfigError(
                f"algo.entropy.start={self.start:g}: must lie between algo.entropy.low={self.low:g} and "
                f"algo.entropy.high={self.high:g}; type algo.entropy.start={self.low:g}"
            )
        self.coef = self.start

    def begin(self, entropy: float) -> None:
        """Begin an iteration whose samples have the mean `entropy`, which is NaN if none of it is known."""
        self._entropy = entropy
        self.applied = self.coef if entropy <= self.target else 0.0

    def end(self) -> None:
        """Move the coefficient after the iteration; without a known entropy it stays."""
        if not math.isnan(self._entropy):
            moved = self.coef + (self.step if self._entropy <= self.target else -self.step)
            self.coef = min(max(moved, self.low), self.high)


def _weights(batch: Batch, like: Tensor) -> Float[Tensor, "b s"]:
    return (batch.row_weight.unsqueeze(1) * batch.response / batch.denominator).to(like.dtype)


def _per_update(value: Tensor, batch: Batch) -> Mean:
    """A term of the loss as a metric: the sum over an optimiser batch's micro-batches, averaged over optimiser batches.

    Each micro-batch counts 1/num_micro_batches, so that the counts of an optimiser batch add up to 1.
    """
    return Mean(value.detach().double(), 1 / batch.num_micro_batches)


def _mean_over(value: Tensor, where: Tensor) -> Mean:
    return Mean(torch.where(where, value.detach(), 0).sum(dtype=torch.float64), where.sum())


def _gradient_magnitudes(loss: Tensor, *logprobs: Tensor) -> list[Tensor]:
    """|∂ loss / ∂ log π| of every token: the size of its gradient coefficient under any ratio and clipping rule.

    This differentiates only from the loss to the log-probabilities, not through the model, and keeps the graph for the
    training step's own backward.
    """
    return [slope.double().abs() for slope in torch.autograd.grad(loss, logprobs, retain_graph=True)]


@dataclass(frozen=True, slots=True)
class PolicyObjective:
    """The policy-gradient loss: − clipped surrogate of ratio and advantage + β · KL − c · entropy.

    `entropy` is the coefficient c, or what moves it from iteration to iteration.
    """

    ratio: Ratio
    clip: Clip
    kl: KL | None
    entropy: float | AdaptiveEntropy

    @property
    def uses_ratio(self) -> bool:
        return rule_of(self.ratio) is not ratio_ops.log_probability

    @property
    def uses_old(self) -> bool:
        """Whether the loss reads the log-probabilities under the policy before the iteration's updates."""
        weighed = self.kl_in_loss is not None and self.kl_in_loss.weight == "ratio"
        return self.uses_ratio or reads(self.clip, "old") or weighed

    @property
    def uses_sampled(self) -> bool:
        """Whether the loss reads the sampler's own log-probabilities."""
        return reads(self.clip, "sampled")

    @property
    def kl_in_loss(self) -> KL | None:
        return self.kl if self.kl is not None and self.kl.place == "loss" else None

    @property
    def kl_in_reward(self) -> KL | None:
        return self.kl if self.kl is not None and self.kl.place == "reward" else None

    @property
    def adaptive_entropy(self) -> AdaptiveEntropy | None:
        return self.entropy if isinstance(self.entropy, AdaptiveEntropy) else None

    @property
    def entropy_coef(self) -> float:
        """The coefficient of the entropy bonus in the present iteration."""
        return self.entropy.applied if isinstance(self.entropy, AdaptiveEntropy) else self.entropy

    @property
    def has_gradient_without_advantage(self) -> bool:
        """Whether rows of advantage zero have a gradient too, from the KL term or the entropy bonus."""
        return self.kl_in_loss is not None or self.entropy_coef != 0

    @property
    def moves_without_advantage(self) -> bool:
        """Whether rows of advantage zero have a gradient in some iteration: an entropy bonus that moves begins at 0."""
        return self.has_gradient_without_advantage or self.adaptive_entropy is not None

    def __call__(self, logprobs: Float[Tensor, "b s"], entropies: Float[Tensor, "b s"] | None, batch: Batch) -> Loss:
        """The loss of one micro-batch with its metrics. `entropies` is read only if the bonus has a coefficient."""
        assert batch.advantages is not None
        weights = _weights(batch, logprobs)
        # Rows come without old log-probabilities where no ratio reads them, and where the iteration has a single
        # optimiser step: then this forward itself is of the policy that sampled, the ratio is 1, and its gradient is
        # that of log π.
        old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        advantage = batch.advantages
        quantity = applied("ratio", self.ratio, logprobs, old, batch.response, like=logprobs, advantage=advantage)
        surrogate = self._surrogate(quantity, logprobs, old, batch)
        policy = -(weights * surrogate).sum()
        metrics = {"train/loss/policy": _per_update(policy, batch)}
        total, parts = policy, -(weights * surrogate.detach()).sum(1)
        if (kl := self.kl_in_loss) is not None:
            assert batch.ref_logprobs is not None
            penalties = weights * kl(logprobs, batch.ref_logprobs)
            if kl.weight == "ratio":
                penalties = ratio_ops.token(logprobs, old, batch.response) * penalties
            penalty = penalties.sum()
            metrics["train/loss/kl"] = _per_update(penalty, batch)
            total, parts = total + kl.coef * penalty, parts + kl.coef * penalties.detach().sum(1)
        if (coef := self.entropy_coef) != 0:
            assert entropies is not None
            bonuses = weights * entropies
            total, parts = total - coef * bonuses.sum(), parts - coef * bonuses.detach().sum(1)
        metrics["train/loss/total"] = _per_update(total, batch)
        if policy.requires_grad:
            slope = _gradient_magnitudes(policy, logprobs)[0]
            for sign, where in (("positive", batch.advantages > 0), ("negative", batch.advantages < 0)):
                metrics[f"train/gradient_mass/{sign}"] = _per_update(torch.where(where, slope, 0).sum(), batch)
        if self.uses_ratio:
            ratio = quantity.detach()
            clipped = self._clipped(ratio, logprobs.detach(), old, batch)
            metrics |= _off_policy_metrics(logprobs.detach(), old, ratio, clipped, batch)
        return Loss(total, metrics, parts)

    def _surrogate(self, ratio: Tensor, logprobs: Tensor, old: Tensor, batch: Batch) -> Float[Tensor, "b s"]:
        sampled = old if batch.sampler_logprobs is None else batch.sampler_logprobs
        more = {"logprobs": logprobs, "old": old, "response": batch.response, "sampled": sampled}
        return applied("clip", self.clip, ratio, batch.advantages, like=logprobs, **more)

    def _gradient_coefficient(
        self, ratio: Float[Tensor, "b s"], logprobs: Float[Tensor, "b s"], old: Tensor, batch: Batch
    ) -> Float[Tensor, "b s"]:
        """The factor of ∇ log π of each token that clipping leaves: ratio · advantage where it changes nothing."""
        with torch.enable_grad():
            leaves = ratio.clone().requires_grad_(), logprobs.clone().requires_grad_()
            surrogate = self._surrogate(*leaves, old, batch)
            if not surrogate.requires_grad:
                return torch.zeros_like(ratio)
            by_ratio, by_logprob = torch.autograd.grad(
                surrogate.sum(), leaves, allow_unused=True, materialize_grads=True
            )
        return ratio * by_ratio + by_logprob

    def _clipped(
        self, ratio: Float[Tensor, "b s"], logprobs: Float[Tensor, "b s"], old: Tensor, batch: Batch
    ) -> Bool[Tensor, "b s"]:
        """The tokens whose gradient the rule removes, or holds at a bound; a soft weight, which follows its ratio
        everywhere, holds none, and neither does one that never reads it.

        A gradient is held where its factor is not ratio · advantage, stays the same if the ratio moves further away
        from 1, and is not that of a ratio just below 1.
        """
        assert batch.advantages is not None
        further = ratio * torch.where(ratio < 1, 1 - PROBE, 1 + PROBE)
        here, there, near = (
            self._gradient_coefficient(at, logprobs, old, batch)
            for at in (ratio, further, torch.full_like(ratio, 1 - PROBE))
        )
        is_held = ~_differs(there, here) & _differs(near, here)
        return _differs(here, ratio * batch.advantages) & ((here == 0) | is_held)


PROBE = 0.01
"""The share by which a ratio is moved to see whether its token's gradient follows it."""


def _differs(a: Tensor, b: Tensor) -> Bool[Tensor, "b s"]:
    """Where two numbers differ by more than rounding: some rules multiply and divide by the ratio."""
    return (a - b).abs() > 1e-5 * b.abs()


def _off_policy_metrics(logprobs: Tensor, old: Tensor, ratio: Tensor, clipped: Tensor, batch: Batch) -> dict[str, Mean]:
    """Clip fractions, mean ratio and KL to the policy that sampled, over the rows of non-zero weight."""
    counts = batch.response & (batch.row_weight > 0).unsqueeze(1)
    return {
        "train/clip_frac": _mean_over(clipped.float(), counts),
        "train/clip_frac/low": _mean_over((clipped & (ratio < 1)).float(), counts),
        "train/clip_frac/high": _mean_over((clipped & (ratio > 1)).float(), counts),
        "train/ratio/mean": _mean_over(ratio, counts),
        "train/kl_old": _mean_over(kl_ops.k3(old - logprobs), counts),
    }


@dataclass(frozen=True, slots=True)
class ValueObjective:
    """The critic's clipped value loss against the returns, over the policy's rows and with the same weights."""

    clip: float

    def __call__(self, values: Float[Tensor, "b s"], batch: Batch) -> Loss:
        assert batch.values is not None
        assert batch.returns is not None
        counts = batch.response & (batch.row_weight > 0).unsqueeze(1)
        losses = _weights(batch, values) * clipped_value_loss(values, batch.values, batch.returns, self.clip)
        loss = losses.sum()
        far = ((values - batch.values).abs() > self.clip).float()
        metrics = {
            "train/loss/value": _per_update(loss, batch),
            "train/value/clip_frac": _mean_over(far, counts),
        }
        return Loss(loss, metrics, losses.detach().sum(1))


@dataclass(frozen=True, slots=True)
class PreferenceObjective:
    """The loss of preference pairs: scores of each pair's chosen and rejected response, compared by a `rule`.

    A score is the `divergence`'s function of the log-ratio to a reference policy, which is summed over tokens and not
    averaged. The denominator is the number of pairs in the optimiser batch.
    """

    rule: PairRule
    divergence: Estimator
    beta: float
    smoothing: float

    def __call__(self, chosen: Float[Tensor, "b s"], rejected: Float[Tensor, "b r"], batch: PairBatch) -> Loss:
        log_ratio_chosen = _sequence_log_ratio(chosen, batch.chosen)
        log_ratio_rejected = _sequence_log_ratio(rejected, batch.rejected)
        margin = log_ratio_chosen - log_ratio_rejected
        counts = batch.chosen.row_weight
        lengths = {f"{side}_lengths": each.response.sum(1) for side, each in batch.sides.items()}
        losses = self.losses(log_ratio_chosen, log_ratio_rejected, **lengths)
        loss = (counts * losses).sum() / batch.chosen.denominator
        real = counts > 0
        logp_chosen = (chosen * batch.chosen.response).sum(1).detach()
        logp_rejected = (rejected * batch.rejected.response).sum(1).detach()
        metrics = {
            "train/loss/policy": _per_update(loss, batch.chosen),
            "train/loss/total": _per_update(loss, batch.chosen),
            "train/dpo/acc": _mean_over((margin.detach() > 0).float(), real),
            "train/dpo/margin": _mean_over(self.beta * margin.detach(), real),
            "train/dpo/reward_chosen": _mean_over(self.beta * log_ratio_chosen.detach(), real),
            "train/dpo/reward_rejected": _mean_over(self.beta * log_ratio_rejected.detach(), real),
            "train/dpo/logp_chosen": _mean_over(logp_chosen, real),
            "train/dpo/logp_rejected": _mean_over(logp_rejected, real),
        }
        if loss.requires_grad:
            for sign, slope in zip(("positive", "negative"), _gradient_magnitudes(loss, chosen, rejected), strict=True):
                metrics[f"train/gradient_mass/{sign}"] = _per_update(slope.sum(), batch.chosen)
        return Loss(loss, metrics, (counts * losses).detach() / batch.chosen.denominator)

    def losses(
        self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], **lengths: Tensor
    ) -> Float[Tensor, " b"]:
        """The loss of each pair from the log-ratios of its responses; `lengths` are theirs, for rules that ask."""
        scores = [applied("divergence", self.divergence, of, like=of) for of in (chosen, rejected)]
        return applied("preference", self.rule, *scores, self.beta, like=chosen, smoothing=self.smoothing, **lengths)


def _sequence_log_ratio(logprobs: Float[Tensor, "b s"], batch: Batch) -> Float[Tensor, " b"]:
    assert batch.ref_logprobs is not None
    return ((logprobs - batch.ref_logprobs) * batch.response).sum(1)
