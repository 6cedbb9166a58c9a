"""Checks of rules on (P, G) matrices of rewards: which samples are kept, and which advantage each has."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from winnow.conformance.calling import call, leaves_its_inputs
from winnow.conformance.claims import claims_of
from winnow.conformance.example import Group, generator, group, groups, in_order, orders
from winnow.conformance.finding import TOLERANCE, Check, Result, difference, fails, not_applicable, passes, same
from winnow.rule import reads, returned

SHIFT, FACTOR = 2.5, 3.0
ROUGH = 1e-2
"""Allowed difference where a factor on the rewards meets an ε beside a standard deviation. A rule that has no such
invariance differs by the order of 1."""


@dataclass(frozen=True, slots=True)
class MatrixRule:
    """A select or advantage rule, called on a group of numbers."""

    axis: str
    rule: Callable

    def __call__(self, at: Group) -> Tensor:
        found = call(self.rule, *self._positional(at), **self.offered(at))
        return returned(self.axis, self.rule, found, at.rewards)

    def _positional(self, at: Group) -> tuple[Tensor, ...]:
        return (at.rewards, at.correct) if self.axis == "select" else (at.rewards,)

    def offered(self, at: Group) -> dict[str, Tensor | None]:
        named = {name: getattr(at, name) for name in Group.__dataclass_fields__ if name not in ("rewards", "penalty")}
        return {name: value for name, value in named.items() if self.axis != "select" or name != "correct"}

    @property
    def claims(self) -> frozenset[str]:
        return claims_of(self.rule)

    @property
    def reads_iteration(self) -> bool:
        return "iteration" in self.claims or reads(self.rule, "usable")

    def leaves_inputs(self) -> Result:
        at = group()
        return leaves_its_inputs(self.rule, *self._positional(at), **self.offered(at))


def _right_shape(tested: MatrixRule) -> Result:
    for at in (group(), group(1, 4), group(3, 1)):
        found = tested(at)
        if tested.axis == "select" and found.dtype != torch.bool:
            return fails(f"returned {found.dtype}; it has to return torch.bool, whether each sample is kept")
        if tested.axis == "advantage" and found.dtype != at.rewards.dtype:
            return fails(f"returned {found.dtype} for rewards of {at.rewards.dtype}")
    return passes("a (P, G) matrix, also of one prompt and of one sample")


def _deterministic(tested: MatrixRule) -> Result:
    at = group()
    return same([(tested(at), tested(at))], "two calls give the same", "two calls with the same numbers differ", 0.0)


def _samples_permuted(tested: MatrixRule) -> Result:
    return same(
        [
            (tested(at.samples(order)), in_order(tested(at), order))
            for at in groups()
            for order in _orders_of_samples(at.rewards)
        ],
        "a sample's place in its group has no effect",
        "the order of a prompt's samples changes the result",
    )


def _orders_of_samples(rewards: Tensor) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(rewards.shape, generator=generator("samples")).argsort(1)
    return torch.arange(rewards.shape[1]).roll(1).expand_as(drawn), drawn


def _prompts_permuted(tested: MatrixRule) -> Result:
    return same(
        [
            (tested(at.prompts(order)), tested(at)[order])
            for at in groups()
            for order in orders(len(at.rewards), "prompts")
        ],
        "a prompt's place has no effect",
        "the order of the prompts changes the result",
    )


def _regrouped(tested: MatrixRule) -> Result:
    results = [(_apart(tested, at), tested(at)) for at in groups()]
    if tested.reads_iteration:
        how = "by its claim" if "iteration" in tested.claims else "since it names `usable`"
        found = difference(*results[0])
        return not_applicable(f"reads the whole iteration, {how} (in several calls the result differs by {found:.3g})")
    return same(
        results,
        "prompts in one call and in several give the same",
        "the result of a prompt depends on the other prompts of the call; a rule that means it claims "
        '`RULE.claims = {"iteration"}`',
    )


def _apart(tested: MatrixRule, at: Group) -> Tensor:
    """The results of prompts that are given in several calls: one, two or three in each."""
    sizes = [1, 3, *[1, 2] * len(at.rewards)]
    bounds = [end for end in accumulate(sizes, initial=0) if end < len(at.rewards)]
    return torch.cat([tested(at.prompts(slice(a, b))) for a, b in pairwise([*bounds, len(at.rewards)])])


def _claimed(word: str, change: Callable[[Tensor], Tensor], what: str) -> Callable[[MatrixRule], Result]:
    def run(tested: MatrixRule) -> Result:
        at = group()
        moved, plain = tested(at.with_rewards(change(at.rewards))), tested(at)
        if word not in tested.claims:
            return not_applicable(f"not claimed; {what} changes it by {difference(moved, plain):.3g}")
        return same([(moved, plain)], f"{what} has no effect", f"claims `{word}`, but {what} changes it", ROUGH)

    return run


def _ranked(at: Group) -> Group:
    """Samples that differ in rewards alone, in whose order they are; the better ones are those with a right verdict."""
    ranked = replace(at, lengths=torch.full_like(at.lengths, 4)).with_rewards(at.rewards.sort(1).values)
    return replace(ranked, correct=ranked.rewards > 0)


def _higher_is_better(tested: MatrixRule) -> Result:
    steps = torch.cat([tested(_ranked(at)).diff(dim=1).flatten() for at in groups()])
    falls = int((steps < -TOLERANCE).sum())
    if not falls:
        return passes("of two samples of a prompt, the one of the higher reward has no lower advantage")
    said = f"of {steps.numel()} pairs of samples of a prompt, {falls} have the lower advantage at the higher reward"
    if "any_order" in tested.claims:
        return not_applicable(f"{said}, by its claim")
    return fails(f'{said}; a rule that means it claims `RULE.claims = {{"any_order"}}`')


def _keeps_something(tested: MatrixRule) -> Result:
    mixed = [at.prompts((at.correct.any(1) & ~at.correct.all(1)).nonzero()[:, 0]) for at in groups()]
    kept, count = (
        sum(each) for each in zip(*((int(tested(at).sum()), at.rewards.numel()) for at in mixed), strict=True)
    )
    if kept:
        return passes(f"keeps {kept} of {count} samples of prompts with right and wrong ones")
    return fails(
        f"keeps none of {count} samples of prompts with right and wrong ones, whose rewards are "
        f"{_range(mixed[-1].rewards)}: nothing would be trained on"
    )


def _without_spread(tested: MatrixRule) -> Result:
    at = group()
    zeros, tied = (tested(at.with_rewards(torch.full_like(at.rewards, value))) for value in (0.0, 0.7))
    if not (zeros.isfinite().all() and tied.isfinite().all()):
        return fails("rewards that are all equal give an advantage that is not finite")
    return passes(f"finite: {_range(tied)} where all rewards are 0.7, {_range(zeros)} where all are 0")


def _extremes(tested: MatrixRule) -> Result:
    cases = {
        "groups of one sample": group(3, 1),
        "one prompt with one sample": group(1, 1),
        "rewards of ±1e6": group().with_rewards(1e6 * group().rewards),
        "rewards of ±1e-6": group().with_rewards(1e-6 * group().rewards),
    }
    for what, at in cases.items():
        for dtype in (torch.float64, torch.float32):
            found = tested(at.with_rewards(at.rewards.to(dtype)))
            if not found.isfinite().all():
                return fails(f"{what} in {dtype}: {int((~found.isfinite()).sum())} numbers are not finite")
    return passes(f"finite for {', '.join(cases)}, in float64 and float32")


def _range(numbers: Tensor) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _lost_sample(tested: MatrixRule) -> Result:
    """A sample that is not usable, at which 0 stands, counts as if it had not been drawn."""
    if not reads(tested.rule, "usable"):
        return not_applicable("does not name `usable`: it is called without the samples whose reward is lost")
    at = group()
    usable = torch.ones_like(at.usable)
    usable[:, 2] = False
    lost = at.with_rewards(torch.where(usable, at.rewards, 0.0))
    others = torch.tensor([0, 1, 3]).expand(len(at.rewards), -1)
    return same(
        [(tested(replace(lost, usable=usable))[:, [0, 1, 3]], tested(at.samples(others)))],
        "a sample that is not usable counts as if it had not been drawn",
        "a sample that is not usable changes the advantage of the others",
    )


def _penalty(tested: MatrixRule) -> Result:
    if not reads(tested.rule, "penalty"):
        return not_applicable("does not name `penalty`: no KL term can be in its reward")
    at = group()
    with_none = call(tested.rule, at.rewards, **tested.offered(at), penalty=torch.zeros_like(at.rewards))
    moved = call(tested.rule, at.rewards, **tested.offered(at), penalty=at.penalty)
    effect = f"; one of up to {float(at.penalty.max()):.2g} changes it by {difference(moved, tested(at)):.3g}"
    result = same([(with_none, tested(at))], "a penalty of 0 is none", "a penalty of 0 changes the advantage")
    return replace(result, said=result.said + effect)


_COMMON = (
    Check("shape", _right_shape),
    Check("determinism", _deterministic),
    Check("inputs unchanged", MatrixRule.leaves_inputs),
    Check("order of samples", _samples_permuted),
    Check("order of prompts", _prompts_permuted),
    Check("regrouping", _regrouped),
)
SELECT = (*_COMMON, Check("keeps something", _keeps_something))
ADVANTAGE = (
    *_COMMON,
    Check("lost samples", _lost_sample),
    Check("penalty", _penalty),
    Check("shift of rewards", _claimed("shift", lambda r: r + SHIFT, f"adding {SHIFT} to all rewards")),
    Check("scale of rewards", _claimed("scale", lambda r: FACTOR * r, f"multiplying all rewards by {FACTOR:g}")),
    Check("direction", _higher_is_better),
    Check("equal rewards", _without_spread),
    Check("extreme rewards", _extremes),
)
