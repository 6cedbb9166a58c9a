"""Objectives: compositions of `ops` into a loss for one micro-batch.

loss = − Σ weight · gain(ratio, advantage) / denominator + β · KL − c · entropy, where all three terms run over the same
rows with the same weights and the same denominator, given with the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.ops import kl as kl_ops
from winnow.ops import ratio as ratio_ops
from winnow.ops.value import clipped_value_loss, dpo
from winnow.types import Batch, Loss, Mean, PairBatch

Ratio = Callable[[Float[Tensor, "b s"], Float[Tensor, "b s"] | None, Bool[Tensor, "b s"]], Float[Tensor, "b s"]]
Clip = Callable[[Float[Tensor, "b s"], Float[Tensor, "b s"]], Float[Tensor, "b s"]]
Aggregate = Callable[[Int[Tensor, " n"]], tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]
Estimator = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class KL:
    """A penalty for leaving a reference policy.

    `place` is the loss (differentiated) or the reward (a number taken off it). `reference` is the initial model or the
    previous policy: the one that drew this iteration's samples. `clamp` bounds each token's estimate (released code: 10).
    """

    estimator: Estimator
    coef: float
    place: Literal["loss", "reward"] = "loss"
    reference: Literal["initial", "previous"] = "initial"
    clamp: float | None = None

    def __call__(self, logprobs: Tensor, reference: Tensor) -> Tensor:
        """The estimate per token, of the shape of `logprobs`."""
        estimate = self.estimator(logprobs - reference)
        return estimate if self.clamp is None else estimate.clamp(-self.clamp, self.clamp)


def no_kl() -> None:
    """What `algo/kl=none` builds."""


def rule_of(rule: Callable) -> Callable:
    """The function of `ops` behind a composed rule, which Hydra hands out as a partial."""
    return rule.func if isinstance(rule, partial) else rule


def _weights(batch: Batch, like: Tensor) -> Float[Tensor, "b s"]:
    return (batch.row_weight.unsqueeze(1) * batch.response / batch.denominator).to(like.dtype)


def _per_update(value: Tensor, batch: Batch) -> Mean:
    """A term of the loss, averaged over optimiser batches: micro-batches add up, and each is 1/num_micro_batches of one."""
    return Mean(value.detach().double(), 1 / batch.num_micro_batches)


def _mean_over(value: Tensor, where: Tensor) -> Mean:
    return Mean(torch.where(where, value.detach(), 0).sum(dtype=torch.float64), where.sum())


def _gradient_magnitudes(loss: Tensor, *logprobs: Tensor) -> list[Tensor]:
    """|∂ loss / ∂ log π| of every token, whatever rules lie between; only they are gone through, and the graph stays."""
    return [slope.double().abs() for slope in torch.autograd.grad(loss, logprobs, retain_graph=True)]


@dataclass(frozen=True, slots=True)
class PolicyObjective:
    """Push the kept tokens' log-probability or ratio, by their advantage."""

    ratio: Ratio
    clip: Clip
    kl: KL | None
    entropy: float

    @property
    def uses_ratio(self) -> bool:
        return rule_of(self.ratio) is not ratio_ops.log_probability

    @property
    def kl_in_loss(self) -> KL | None:
        return self.kl if self.kl is not None and self.kl.place == "loss" else None

    @property
    def kl_in_reward(self) -> KL | None:
        return self.kl if self.kl is not None and self.kl.place == "reward" else None

    @property
    def has_gradient_without_advantage(self) -> bool:
        """Whether rows whose advantage is zero have a gradient all the same."""
        return self.kl_in_loss is not None or self.entropy != 0

    def __call__(self, logprobs: Float[Tensor, "b s"], entropies: Float[Tensor, "b s"] | None, batch: Batch) -> Loss:
        """`entropies` is read only if the entropy coefficient is not zero."""
        assert batch.advantages is not None
        weights = _weights(batch, logprobs)
        # Rows without old log-probabilities are forwarded once, by the policy that sampled them.
        old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        quantity = self.ratio(logprobs, old, batch.response)
        gain = self.clip(quantity, batch.advantages)
        policy = -(weights * gain).sum()
        metrics = {"train/loss/policy": _per_update(policy, batch)}
        total = policy
        if (kl := self.kl_in_loss) is not None:
            assert batch.ref_logprobs is not None
            penalty = (weights * kl(logprobs, batch.ref_logprobs)).sum()
            metrics["train/loss/kl"] = _per_update(penalty, batch)
            total = total + kl.coef * penalty
        if self.entropy != 0:
            assert entropies is not None
            total = total - self.entropy * (weights * entropies).sum()
        metrics["train/loss/total"] = _per_update(total, batch)
        if policy.requires_grad:
            slope = _gradient_magnitudes(policy, logprobs)[0]
            for sign, where in (("positive", batch.advantages > 0), ("negative", batch.advantages < 0)):
                metrics[f"train/gradient_mass/{sign}"] = _per_update(torch.where(where, slope, 0).sum(), batch)
        if self.uses_ratio:
            metrics |= _off_policy_metrics(logprobs.detach(), old, quantity.detach(), gain.detach(), batch)
        return Loss(total, metrics)


def _off_policy_metrics(logprobs: Tensor, old: Tensor, ratio: Tensor, gain: Tensor, batch: Batch) -> dict[str, Mean]:
    """How far the policy has moved from the one that sampled, over the rows that count.

    A token is clipped where its gain is not ratio · advantage; the tolerance is for rules that multiply and divide.
    """
    assert batch.advantages is not None
    counts = batch.response & (batch.row_weight > 0).unsqueeze(1)
    plain = ratio * batch.advantages
    clipped = (gain - plain).abs() > 1e-5 * plain.abs()
    return {
        "train/clip_frac": _mean_over(clipped.float(), counts),
        "train/clip_frac/low": _mean_over((clipped & (ratio < 1)).float(), counts),
        "train/clip_frac/high": _mean_over((clipped & (ratio > 1)).float(), counts),
        "train/ratio/mean": _mean_over(ratio, counts),
        "train/kl_old": _mean_over(kl_ops.k3(old - logprobs), counts),
    }


@dataclass(frozen=True, slots=True)
class ValueObjective:
    """Fit the critic to the returns, over the policy's rows and weights."""

    clip: float

    def __call__(self, values: Float[Tensor, "b s"], batch: Batch) -> Loss:
        assert batch.values is not None
        assert batch.returns is not None
        counts = batch.response & (batch.row_weight > 0).unsqueeze(1)
        loss = (_weights(batch, values) * clipped_value_loss(values, batch.values, batch.returns, self.clip)).sum()
        far = ((values - batch.values).abs() > self.clip).float()
        metrics = {
            "train/loss/value": _per_update(loss, batch),
            "train/value/clip_frac": _mean_over(far, counts),
        }
        return Loss(loss, metrics)


@dataclass(frozen=True, slots=True)
class PreferenceObjective:
    """Tell the chosen from the rejected response of each pair, against a reference policy."""

    beta: float
    smoothing: float

    def __call__(self, chosen: Float[Tensor, "b s"], rejected: Float[Tensor, "b r"], batch: PairBatch) -> Loss:
        log_ratio_chosen = _sequence_log_ratio(chosen, batch.chosen)
        log_ratio_rejected = _sequence_log_ratio(rejected, batch.rejected)
        margin = log_ratio_chosen - log_ratio_rejected
        counts = batch.chosen.row_weight
        losses = dpo(margin, self.beta, self.smoothing)
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
        return Loss(loss, metrics)


def _sequence_log_ratio(logprobs: Float[Tensor, "b s"], batch: Batch) -> Float[Tensor, " b"]:
    assert batch.ref_logprobs is not None
    return ((logprobs - batch.ref_logprobs) * batch.response).sum(1)
