"""Checks against the models themselves: scores, values and the gradient of a few rows by plain forwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from winnow import distributed
from winnow.guards.finding import Finding
from winnow.guards.plain_rules import estimate
from winnow.models.plain_forward import PlainScores, plain_scores, plain_values
from winnow.models.policy import AdaptersOff, Critic, FrozenCopy, Policy
from winnow.models.sharding import is_sharded
from winnow.objectives import Clip, PolicyObjective, PreferenceObjective
from winnow.ops import preference
from winnow.ops import ratio as ratio_ops
from winnow.rule import given, reads, rule_of
from winnow.types import Row

CHECKED_NUMBERS = 2**22
"""Number of parameters of a part of the model whose gradient is compared: the smallest tensors up to this size in all.
The norms and biases of all layers are among them, and through their layers' outputs a fault anywhere reaches them."""

ROUNDING_OF_SLOPE = 3e-5
"""Bound on the rounding of a gradient for each unit of its tokens' coefficients: the unit in the last place of a
probability in float32, times the norm of the gradient of a logit, which is of order 100."""


@dataclass(frozen=True, slots=True)
class PlainLoss:
    """The loss of one row or pair with its graph, and the sum of its tokens' absolute coefficients."""

    value: Float[Tensor, ""]
    mass: float


@dataclass(frozen=True, slots=True)
class PlainRow:
    """A row with its scores, and its values if there is a critic, by plain forwards with their graphs.

    `reference` are its log-probabilities under the reference policy that is kept, if one is.
    """

    row: Row
    scores: PlainScores
    values: Float[Tensor, " t"] | None = None
    reference: Float[Tensor, " t"] | None = None

    @classmethod
    def of(
        cls,
        row: Row,
        policy: Policy,
        temperature: float,
        critic: Critic | None,
        reference: FrozenCopy | AdaptersOff | None,
    ) -> "PlainRow":
        initial = None
        if reference is not None:
            with torch.no_grad(), reference.policy() as frozen:
                initial = plain_scores(frozen, row, temperature).logprobs
        values = None if critic is None else plain_values(critic, row)
        return cls(row, plain_scores(policy, row, temperature), values, initial)

    def own(self, numbers: Float[Tensor, " s"]) -> Float[Tensor, " t"]:
        """Numbers of the row at its response tokens, on the device of its scores."""
        return numbers[self.row.prompt_length :].to(self.scores.logprobs.device)


def plain_policy_loss(objective: PolicyObjective, row: PlainRow, weight: float) -> PlainLoss | None:
    """The loss of one row whose tokens weigh `weight`, before the first update: nothing is clipped there.

    Its gradient is that of − weight · Σ c_t log π_t, plus KL and entropy; None if the ratio is a plug-in's.
    """
    assert row.row.advantage is not None
    logprobs, entropies = row.scores
    advantage, old = row.own(row.row.advantage), row.row.old_logprobs
    delta = torch.zeros_like(logprobs) if old is None else logprobs.detach() - row.own(old)
    change = logprobs - logprobs.detach() + delta
    match rule_of(objective.ratio):
        case ratio_ops.log_probability:
            ratio, coefficient = logprobs, advantage
        case ratio_ops.token:
            ratio, coefficient = change.exp(), delta.exp() * advantage
        case ratio_ops.sequence_product:
            ratio, coefficient = change.sum().exp(), (delta.sum().exp() * advantage.sum()).expand_as(advantage)
        case ratio_ops.sequence:
            ratio, coefficient = change.mean().exp(), (delta.mean().exp() * advantage.mean()).expand_as(advantage)
        case _:
            return None
    loss = -(coefficient * logprobs).sum()
    if reads(objective.clip, "logprobs"):
        # Such a rule may put a number without a gradient on log π, where the others differentiate the ratio.
        own = row.row.sampler_logprobs
        before = logprobs.detach() - delta
        more = {"logprobs": logprobs, "old": before, "sampled": before if own is None else row.own(own)}
        loss = -_surrogate(objective.clip, ratio.expand_as(logprobs), advantage, **more)
    if (kl := objective.kl_in_loss) is not None:
        assert row.row.ref_logprobs is not None
        estimates = estimate(kl, logprobs - row.own(row.row.ref_logprobs))
        if kl.weight == "ratio":
            estimates = (logprobs - logprobs.detach() + delta).exp() * estimates
        loss = loss + kl.coef * estimates.sum()
    mass = float(advantage.abs().sum()) + len(logprobs) * (objective.entropy_coef + (kl.coef if kl is not None else 0))
    return PlainLoss(weight * (loss - objective.entropy_coef * entropies.sum()), weight * mass)


def _surrogate(rule: Clip, ratio: Tensor, advantage: Tensor, **offered: Tensor) -> Float[Tensor, ""]:
    """The sum of the surrogate over the tokens of one response, by the clipping rule itself."""
    offered["response"] = torch.ones_like(ratio, dtype=torch.bool)
    more = given(rule, **{name: of[None] for name, of in offered.items()})
    return rule(ratio[None], advantage[None], **more).sum()


def plain_value_loss(row: PlainRow, weight: float) -> PlainLoss:
    """The critic's loss of one row before the first update: no value has moved, so that nothing is clipped."""
    assert row.values is not None
    assert row.row.returns is not None
    error = row.values - row.own(row.row.returns)
    return PlainLoss(weight * 0.5 * error.square().sum(), weight * float(error.detach().abs().sum()))


def plain_preference_loss(
    objective: PreferenceObjective, chosen: PlainRow, rejected: PlainRow, pairs: float
) -> PlainLoss:
    """The DPO loss of one of `pairs` pairs."""
    sides = []
    for side in (chosen, rejected):
        assert side.row.ref_logprobs is not None
        sides.append(side.scores.logprobs.sum() - side.own(side.row.ref_logprobs).sum())
    margin = objective.beta * (sides[0] - sides[1])
    s = objective.smoothing
    lengths = [torch.tensor([len(side.scores.logprobs)]) for side in (chosen, rejected)]
    tokens = len(chosen.scores.logprobs) + len(rejected.scores.logprobs)
    if (rule_of(objective.rule), rule_of(objective.divergence)) == (preference.sigmoid, preference.reverse_kl):
        loss = -((1 - s) * logsigmoid(margin) + s * logsigmoid(-margin)) / pairs
    else:
        given = {"chosen_lengths": lengths[0], "rejected_lengths": lengths[1]}
        loss = objective.losses(*(side[None] for side in sides), **given).sum() / pairs
    return PlainLoss(loss, objective.beta * tokens / pairs)


def checked_parameters(part: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of a part of the model whose gradients are compared."""
    chosen, total = [], 0
    for parameter in sorted((p for p in part.parameters() if p.requires_grad), key=torch.Tensor.numel):
        if chosen and total + parameter.numel() > CHECKED_NUMBERS:
            break
        chosen.append(parameter)
        total += parameter.numel()
    return chosen


def wrong_gradient(
    parts: Mapping[str, nn.Module], packed: Callable[[], Tensor], plain: Sequence[PlainLoss], limit: float
) -> Finding | None:
    """A finding if the gradient of the `packed` loss is not the sum of those of the `plain` ones, part by part.

    The difference is relative to the norms of the plain gradients, which in the sum may cancel, and to the rounding of
    probabilities: where a policy is certain, that is all there is of its gradient.
    """
    groups = {name: checked_parameters(part) for name, part in parts.items()}
    parameters = [p for group in groups.values() for p in group]
    found = _gradients(packed(), parameters)
    totals = [torch.zeros_like(g) for g in found]
    squares = dict.fromkeys(groups, 0.0)
    for loss in plain:
        own = _gradients(loss.value, parameters)
        for total, g in zip(totals, own, strict=True):
            total += g
        for name, gradients in _by_group(groups, own).items():
            squares[name] += _square(gradients)
    if any(is_sharded(part) for part in parts.values()):
        # The backward passes have reached all weights; none of the update's own has run yet.
        for part in parts.values():
            part.zero_grad()
    for name, gradients in _by_group(groups, [f - t for f, t in zip(found, totals, strict=True)]).items():
        away, size = _square(gradients) ** 0.5, squares[name] ** 0.5
        rounding = ROUNDING_OF_SLOPE * sum(loss.mass for loss in plain)
        if not away <= limit * size + rounding:  # not `>`, which is false for NaN
            where = f"{name}, {len(plain)} rows"
            return Finding(
                "gradient", where, f"the plain forward's, of norm {size:.3g}", f"one that is {away:.3g} away"
            )
    return None


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    if any(distributed.local(p) is not p for p in parameters):
        return _sharded_gradients(loss, parameters)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _sharded_gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """This rank's part of the gradient of all ranks' losses, averaged: the backward pass leaves nothing else."""
    for p in parameters:
        p.grad = None
    loss.backward()
    return [torch.zeros_like(distributed.local(p)) if p.grad is None else distributed.local(p.grad) for p in parameters]


def _by_group(groups: Mapping[str, Sequence[nn.Parameter]], numbers: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    rest = iter(numbers)
    return {name: [next(rest) for _ in group] for name, group in groups.items()}


def _square(tensors: Sequence[Tensor]) -> float:
    return float(sum(t.double().square().sum() for t in tensors))
