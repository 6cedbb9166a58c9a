"""Rules of `ops`, written once more for single numbers: what a token weighs, how a KL is estimated, what is kept.

None of the vectorised code is used here, because a check that shared it would share its faults. A rule of a plug-in is
known to nobody else and is called as it is.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature

import torch
from torch import Tensor

from winnow.objectives import KL, Aggregate
from winnow.ops import aggregate as aggregate_ops
from winnow.ops import kl as kl_ops
from winnow.ops import ratio as ratio_ops
from winnow.ops import select as select_ops
from winnow.rule import given, reads, rule_of

ROUNDING = 8 * 2.0**-23
"""Relative difference of rewards, which are float32, that is no difference."""


def settings_of(rule: Callable) -> dict[str, object]:
    """The settings of a rule with their defaults, as the configuration has bound them."""
    function = rule_of(rule)
    defaults = {name: p.default for name, p in signature(function).parameters.items() if p.default is not p.empty}
    return defaults | (dict(rule.keywords) if isinstance(rule, partial) else {})


def token_weights(rule: Aggregate, rows: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """For each of an optimiser batch's rows (length, number of its prompt): the weight of its tokens, and its part of
    the denominator."""
    if not reads(rule, "prompts"):
        return [_token_weight(rule, length) for length, _ in rows]
    lengths, prompts = (torch.tensor(column) for column in zip(*rows, strict=True))
    weights, parts = rule(lengths, prompts=prompts)
    return [*zip(weights.tolist(), parts.tolist(), strict=True)]


def _token_weight(rule: Aggregate, length: int) -> tuple[float, float]:
    match rule_of(rule):
        case aggregate_ops.sequence_mean:
            return 1 / length, 1.0
        case aggregate_ops.token_mean:
            return 1.0, float(length)
        case aggregate_ops.sequence_sum:
            return 1.0, 1.0
        case aggregate_ops.constant_length:
            return 1.0, float(str(settings_of(rule)["length"]))
        case _:
            weight, part = rule(torch.tensor([length]))
            return float(weight), float(part)


def estimate(kl: KL, delta: Tensor) -> Tensor:
    """The estimate of each token's KL from delta = log π − log π_ref, without the coefficient."""
    match rule_of(kl.estimator):
        case kl_ops.k1:
            found = delta
        case kl_ops.k2:
            found = 0.5 * delta * delta
        case kl_ops.k3:
            found = torch.exp(-delta) + delta - 1
        case _:
            found = kl.estimator(delta)
    return found if kl.clamp is None else found.clamp(-kl.clamp, kl.clamp)


def correction_weight(rule: Callable[..., Tensor], ratio: Tensor, advantage: Tensor) -> Tensor:
    """The weight on the advantage of each token of one response, at the ratio of trainer to sampler."""
    settings = settings_of(rule)
    match rule_of(rule):
        case ratio_ops.uncorrected:
            return torch.ones_like(ratio)
        case ratio_ops.truncated:
            cap = float(str(settings["cap"]))
            return torch.tensor([min(r, cap) for r in ratio.tolist()])
        case ratio_ops.masked:
            low, high = float(str(settings["floor"])), float(str(settings["cap"]))
            return torch.tensor([r if low <= r <= high else 0.0 for r in ratio.tolist()])
        case _:
            every = torch.ones_like(ratio, dtype=torch.bool)[None]
            return rule(ratio[None], **given(rule, response=every, advantage=advantage[None]))[0]


def is_kept(rule: Callable, rewards: Sequence[float], correct: Sequence[bool]) -> list[bool] | None:
    """Whether each sample of one prompt is kept; None for a rule that is not one of `ops.select`."""
    every, none = all(correct), not any(correct)
    best = max((r for r, c in zip(rewards, correct, strict=True) if c), default=0.0)
    match rule_of(rule):
        case select_ops.all_samples:
            return [True] * len(rewards)
        case select_ops.positive:
            return list(correct)
        case select_ops.negative:
            return [not c for c in correct]
        case select_ops.best:
            return [c and best - r <= ROUNDING * abs(best) for r, c in zip(rewards, correct, strict=True)]
        case select_ops.not_all_wrong:
            return [not none] * len(rewards)
        case select_ops.not_all_correct:
            return [not every] * len(rewards)
        case select_ops.mixed_prompts:
            return [not none and not every] * len(rewards)
        case _:
            return None


def tied(numbers: Sequence[float]) -> bool:
    """Whether numbers differ by rounding only."""
    return max(numbers) - min(numbers) <= ROUNDING * max(map(abs, numbers))


def spread(numbers: Sequence[float]) -> float:
    """The unbiased standard deviation."""
    mean = sum(numbers) / len(numbers)
    return math.sqrt(sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))
