"""Checks of rules of preference pairs: which pairs there are, their loss, and the divergence behind their scores."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.conformance.calling import call, leaves_its_inputs
from winnow.conformance.claims import claims_of
from winnow.conformance.example import Group, generator, group, groups, orders
from winnow.conformance.finding import Check, Result, difference, fails, first_failure, not_applicable, passes, same
from winnow.conformance.gradient import autograd, finite_differences
from winnow.conformance.token_rules import GRADIENT
from winnow.rule import given, returned

FAR = 300.0
"""Size of a response's log-ratio at which numbers have to stay finite: six tokens of 50 each."""
PAIRS, MANY_PAIRS = 5, 40
FURTHER = torch.tensor([-30.0, -10.0, -5.0, -2.5, -1.0, 1.0, 2.5, 5.0, 10.0, 30.0], dtype=torch.float64)
"""Margins times β, or log-ratios."""


@dataclass(frozen=True, slots=True)
class PairSelect:
    """A rule that makes pairs (prompt, chosen, rejected) of a group's samples."""

    rule: Callable

    def __call__(self, at: Group) -> Int[Tensor, "n 3"]:
        found = call(self.rule, at.rewards, at.correct, **self.offered(at))
        if not isinstance(found, Tensor) or found.dim() != 2 or found.shape[1] != 3 or found.is_floating_point():
            raise TypeError(f"returned {found!r}; it has to return an (N, 3) tensor of whole numbers")
        return found

    def offered(self, at: Group) -> dict[str, Tensor]:
        return {"lengths": at.lengths, "truncated": at.truncated, "parts": at.parts, "weights": at.weights}

    def as_set(self, at: Group) -> set[tuple[int, ...]]:
        return {tuple(triple) for triple in self(at).tolist()}


def _pairs_are_of_samples(tested: PairSelect) -> Result:
    at = group()
    found = tested(at)
    prompts, samples = at.rewards.shape
    for prompt, chosen, rejected in found.tolist():
        if not (0 <= prompt < prompts and 0 <= chosen < samples and 0 <= rejected < samples):
            return fails(f"({prompt}, {chosen}, {rejected}): there are {prompts} prompts with {samples} samples")
    return passes(f"{len(found)} pairs of samples of {prompts} prompts")


def _pairs_repeat(tested: PairSelect) -> Result:
    at = group()
    found = tested(at).equal(tested(at))
    return passes("two calls give the same") if found else fails("two calls with the same numbers differ")


def _pair_inputs(tested: PairSelect) -> Result:
    at = group()
    return leaves_its_inputs(tested.rule, at.rewards, at.correct, **tested.offered(at))


def _prompts_permuted(tested: PairSelect) -> Result:
    results = []
    for at in groups():
        for order in orders(len(at.rewards), "prompts"):
            moved = {(int(order[prompt]), *pair) for prompt, *pair in tested.as_set(at.prompts(order))}
            results.append(_equal_sets(moved, tested.as_set(at), "the order of the prompts changes the pairs"))
    return first_failure(results)


def _regrouped(tested: PairSelect) -> Result:
    results = []
    for at in groups():
        apart = {(p, *pair) for p in range(len(at.rewards)) for _, *pair in tested.as_set(at.prompts(slice(p, p + 1)))}
        broken = "the pairs of a prompt depend on the other prompts of the call"
        results.append(_equal_sets(apart, tested.as_set(at), broken))
    return first_failure(results)


def _equal_sets(found: set, expected: set, broken: str) -> Result:
    apart = len(found ^ expected)
    return fails(f"{broken} ({apart} pairs differ)") if apart else passes(f"the same {len(expected)} pairs")


def _better_chosen(tested: PairSelect) -> Result:
    least = torch.cat([_differences(tested, at) for at in groups()])
    if (least <= 0).any():
        return fails(f"{int((least <= 0).sum())} of {len(least)} pairs have a chosen response that is not better")
    if not len(least):
        return not_applicable("makes no pair")
    return passes(f"the chosen response has the higher reward (least difference {float(least.min()):.3g})")


def _differences(tested: PairSelect, at: Group) -> Tensor:
    """The reward of each pair's chosen response minus that of its rejected one."""
    prompt, chosen, rejected = tested(at).unbind(1)
    return at.rewards[prompt, chosen] - at.rewards[prompt, rejected]


def _makes_pairs(tested: PairSelect) -> Result:
    prompts, found = (sum(each) for each in zip(*((len(at.rewards), len(tested(at))) for at in groups()), strict=True))
    if found:
        return passes(f"{found} pairs of {prompts} prompts, the rewards of whose samples all differ")
    return fails(
        f"makes no pair of {prompts} prompts, the rewards of whose samples all differ: nothing would be trained on"
    )


def _no_pairs_of_ties(tested: PairSelect) -> Result:
    found = len(tested(group().with_rewards(torch.full_like(group().rewards, 0.7))))
    return fails(f"{found} pairs of samples with equal rewards") if found else passes("equal rewards make no pair")


PAIR_SELECT = (
    Check("shape", _pairs_are_of_samples),
    Check("determinism", _pairs_repeat),
    Check("inputs unchanged", _pair_inputs),
    Check("order of prompts", _prompts_permuted),
    Check("regrouping", _regrouped),
    Check("better chosen", _better_chosen),
    Check("keeps something", _makes_pairs),
    Check("equal rewards", _no_pairs_of_ties),
)


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """A rule of numbers for each pair: its loss, or the score of a log-ratio; `settings` are those of the algorithm.

    As a function of one matrix: of the chosen responses' scores in its first line and the rejected ones' in its second.
    """

    axis: str
    rule: Callable
    settings: dict[str, float]

    def __call__(self, scores: Float[Tensor, "2 b"], pairs: Int[Tensor, " b"] | None = None) -> Tensor:
        """A number for each pair, or for each score; `pairs` are the pairs' numbers, by which they differ in length."""
        if self.axis == "divergence":
            return returned(self.axis, self.rule, call(self.rule, scores.reshape(-1)), scores.reshape(-1))
        more = given(self.rule, **{name: value for name, value in self.settings.items() if name != "beta"})
        found = self.rule(*scores.clone(), self.settings["beta"], **more, **self.lengths(scores, pairs))
        return returned(self.axis, self.rule, found, scores[0])

    def lengths(self, scores: Tensor, pairs: Tensor | None = None) -> dict[str, Tensor]:
        lengths = 1 + (torch.arange(scores.shape[1]) if pairs is None else pairs)
        return given(self.rule, chosen_lengths=lengths, rejected_lengths=2 * lengths)

    def slope(self, scores: Tensor, pairs: Tensor | None = None) -> Tensor:
        return autograd(lambda at: self(at, pairs).sum(), scores)


def _scores(pairs: int = PAIRS) -> Float[Tensor, "2 b"]:
    return 3 * torch.randn(2, pairs, generator=generator("scores"), dtype=torch.float64)


def _score_shape(tested: ScoreRule) -> Result:
    found = tested(_scores())
    same_type = found.dtype == torch.float64
    return passes("a number for each") if same_type else fails(f"returned {found.dtype} for scores of torch.float64")


def _scores_repeat(tested: ScoreRule) -> Result:
    at = _scores()
    return same([(tested(at), tested(at))], "two calls give the same", "two calls with the same numbers differ", 0.0)


def _score_inputs(tested: ScoreRule) -> Result:
    at, before = _scores(), _scores()
    if tested.axis == "divergence":
        return leaves_its_inputs(tested.rule, at.reshape(-1))
    lines = at.unbind(0)
    more = given(tested.rule, **{name: value for name, value in tested.settings.items() if name != "beta"})
    tested.rule(*lines, tested.settings["beta"], **more, **tested.lengths(at))
    changed = difference(at, before)
    return (
        passes("inputs are what they were") if changed == 0 else fails(f"changes the scores in place by {changed:.3g}")
    )


def _one_by_one(tested: ScoreRule) -> Result:
    """The first pair has no slope by the others, and pairs are the same alone, in another order and among more."""
    at = _scores()
    others = autograd(lambda x: tested(x).view(-1, PAIRS)[:, 0].sum(), at)[:, 1:]
    many = _scores(MANY_PAIRS)
    whole, slopes = tested(many).view(-1, MANY_PAIRS), tested.slope(many)
    results = [(others, torch.zeros_like(others))]
    for some in (*torch.arange(MANY_PAIRS).split(1), torch.arange(PAIRS), *orders(MANY_PAIRS, "pairs")):
        results.append((tested(many[:, some], some).view(-1, len(some)), whole[:, some]))
        results.append((tested.slope(many[:, some], some), slopes[:, some]))
    return same(results, "a pair has no effect on others", "a pair's number depends on the others, or on its place")


def _at_reference(tested: ScoreRule) -> Result:
    zeros = torch.zeros(2, PAIRS, dtype=torch.float64)
    slope = tested.slope(zeros)
    if tested.axis == "divergence":
        value = float(tested(zeros).abs().max())
        if value > 1e-12 or (slope <= 0).any():
            return fails(f"at a log-ratio of 0 the score is {value:.3g} and its slope {float(slope.min()):.3g}")
        return passes(f"the score is 0 at the reference and rises there (slope {float(slope.min()):.3g})")
    if (slope[0] >= 0).any() or (slope[1] <= 0).any():
        return fails(f"at the reference the loss has slopes {float(slope[0].max()):.3g}, {float(slope[1].min()):.3g}")
    return passes(
        f"at the reference the chosen response is raised ({float(slope[0].max()):.3g}) and the rejected one lowered "
        f"({float(slope[1].min()):.3g})"
    )


def _direction(tested: ScoreRule) -> Result:
    """Scores of growing size on both sides of the reference; pairs whose scores are of equal size and other sign."""
    if tested.axis == "divergence":
        falls = tested.slope(FURTHER.expand(2, -1)) < 0
        if falls.any():
            return fails(
                f"the score falls at a log-ratio of {float(FURTHER[falls[0]][0]):.3g}: it rewards the less likely"
            )
        return passes(f"the score falls nowhere at log-ratios of ±{float(FURTHER.max()):g}")
    half = FURTHER / (2 * tested.settings["beta"])
    chosen, rejected = tested.slope(torch.stack([half, -half]))
    against = (chosen > 0) | (rejected < 0)
    if (wrong := against & (FURTHER < 0)).any():
        return fails(
            f"where the rejected response is the likelier (β·m = {float(FURTHER[wrong].max()):.3g}), the chosen one is "
            "lowered or the rejected one raised"
        )
    if not against.any():
        return passes(f"no pair is pulled the wrong way at β·m of ±{float(FURTHER.max()):g}")
    said = f"a pair that stands right is pulled back from β·m = {float(FURTHER[against].min()):.3g} on"
    if "target" in claims_of(tested.rule):
        return not_applicable(f"{said}, by its claim")
    return fails(f'{said}; a rule whose margin has a target claims `RULE.claims = {{"target"}}`')


def _finite(tested: ScoreRule) -> Result:
    for dtype in (torch.float64, torch.float32):
        for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            at = torch.tensor(signs, dtype=dtype)[:, None].expand(2, PAIRS) * FAR
            for what, found in (("losses", tested(at)), ("gradients", tested.slope(at))):
                if not found.isfinite().all():
                    return fails(f"log-ratios of ±{FAR:g} in {dtype}: {what} are not finite")
    return passes(f"values and gradients are finite at log-ratios of ±{FAR:g}, in float64 and float32")


def _gradient(tested: ScoreRule) -> Result:
    at = _scores()
    places = [(line, pair) for line in range(2) for pair in range(PAIRS)]
    expected = finite_differences(lambda x: tested(x).sum(), at, places, hold=False)
    return same(
        [(tested.slope(at), expected)],
        "autograd is finite differences",
        "autograd differs from finite differences",
        GRADIENT,
    )


SCORE = (
    Check("shape", _score_shape),
    Check("determinism", _scores_repeat),
    Check("inputs unchanged", _score_inputs),
    Check("pairs alone", _one_by_one),
    Check("at the reference", _at_reference),
    Check("direction", _direction),
    Check("gradient", _gradient),
    Check("extreme log-ratios", _finite),
)
