"""Checks of rules on (B, S) matrices of tokens: ratio, clip, correction and KL estimator."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from winnow.conformance.calling import call, leaves_its_inputs
from winnow.conformance.claims import claims_of
from winnow.conformance.example import Tokens, both_tokens, far_tokens, generator, orders, tokens
from winnow.conformance.finding import (
    TOLERANCE,
    Check,
    Result,
    difference,
    fails,
    first_failure,
    not_applicable,
    passes,
    same,
)
from winnow.conformance.gradient import autograd, finite_differences
from winnow.ops import ratio as ratio_ops
from winnow.rule import returned, rule_of

GRADIENT = 1e-5
"""Allowed difference of a gradient from finite differences."""
FAR = 50.0
"""Size of the log-ratios at which numbers have to stay finite."""
RISING = torch.linspace(0.5, 1, 21, dtype=torch.float64).tolist()
"""Ratios of trainer to sampler that rise to 1."""


@dataclass(frozen=True, slots=True)
class TokenRule:
    """A rule with a number for each token, as a function of a batch of rows.

    A clip or correction rule reads the ratio that `ratio` gives.
    """

    axis: str
    rule: Callable
    ratio: Callable | None = None

    def __call__(self, at: Tokens) -> Tensor:
        found = call(self.rule, *self.positional(at), **self.offered(at))
        return returned(self.axis, self.rule, found, at.logprobs)

    def positional(self, at: Tokens) -> tuple[Tensor, ...]:
        if self.axis == "ratio":
            return at.logprobs, at.old, at.response
        if self.axis == "kl":
            return (at.logprobs - at.reference,)
        assert self.ratio is not None
        quantity = call(self.ratio, at.logprobs, at.old, at.response, advantage=at.advantage)
        return (quantity, at.advantage) if self.axis == "clip" else (quantity,)

    def offered(self, at: Tokens) -> dict[str, Tensor | None]:
        return {name: getattr(at, name) for name in OFFERED[self.axis]}

    def total(self, at: Tokens) -> Tensor:
        """A scalar that every token's result enters with a weight of its own."""
        weight = torch.rand(at.response.shape, generator=generator("weight"), dtype=torch.float64) + 0.5
        return (self(at) * weight.to(at.logprobs.dtype) * at.response).sum()

    def slope(self, at: Tokens) -> Tensor:
        """The derivative of `total` by each log-probability."""
        return autograd(lambda logprobs: self.total(replace(at, logprobs=logprobs)), at.logprobs)


OFFERED = {
    "ratio": ("advantage",),
    "clip": ("logprobs", "old", "response", "sampled"),
    "correction": ("response", "advantage"),
    "kl": (),
}
"""The quantities that a rule of each axis may name, beside those it is given by position."""


def _right_shape(tested: TokenRule) -> Result:
    for at in (tokens(), tokens().rows(slice(1, 2))):
        found = tested(at)
        if found.dtype != at.logprobs.dtype:
            return fails(f"returned {found.dtype} for log-probabilities of {at.logprobs.dtype}")
    return passes("a (B, S) matrix, also of one row")


def _deterministic(tested: TokenRule) -> Result:
    at = tokens()
    return same([(tested(at), tested(at))], "two calls give the same", "two calls with the same numbers differ", 0.0)


def _inputs_unchanged(tested: TokenRule) -> Result:
    at = tokens()
    return leaves_its_inputs(tested.rule, *tested.positional(at), **tested.offered(at))


def _rows_permuted(tested: TokenRule) -> Result:
    return same(
        [
            (tested(at.rows(order)), tested(at)[order])
            for at in both_tokens()
            for order in orders(len(at.response), "rows")
        ],
        "a row's place has no effect",
        "the order of the rows changes the result",
    )


def _rows_alone(tested: TokenRule) -> Result:
    return same(
        [(_alone(tested, at), tested(at)) for at in both_tokens()],
        "a row alone and among others has the same",
        "the result of a row depends on the other rows of its micro-batch",
    )


def _alone(tested: TokenRule, at: Tokens) -> Tensor:
    """The results of rows that are given one by one."""
    return torch.cat([tested(at.rows(slice(row, row + 1))) for row in range(len(at.response))])


def _padding(tested: TokenRule) -> Result:
    at = tokens()
    junk = at.with_junk()
    inside = at.response
    results = [(tested(junk)[inside], tested(at)[inside])]
    slopes = [] if tested.axis == "correction" else [(tested.slope(junk)[inside], tested.slope(at)[inside])]
    content = same(
        results + slopes,
        "neither padding nor what stands in it has an effect",
        "numbers outside of the responses change the result",
    )
    width = same(
        [(tested(wider)[wider.response], tested(at)[inside]) for wider in at.wider()],
        "neither padding nor what stands in it has an effect",
        "the result depends on the column at which a token stands, or on the width of the padding",
    )
    outside = torch.zeros(()) if tested.axis == "correction" else tested.slope(junk)[~inside]
    if outside.abs().max() > 0:
        return fails(f"positions outside of the responses have a gradient (up to {float(outside.abs().max()):.3g})")
    return first_failure([content, width])


def _finite(tested: TokenRule) -> Result:
    for dtype in (torch.float64, torch.float32):
        for size in (FAR, -FAR):
            at = far_tokens(size).to(dtype)
            # A correction weight is a number, which nothing is differentiated through.
            slope = {} if tested.axis == "correction" else {"gradients": tested.slope(at)}
            for what, found in ({"results": tested(at)} | slope).items():
                broken = ~found[at.response].isfinite()
                if broken.any():
                    return fails(
                        f"log-ratios of ±{FAR:g} in {dtype}: {int(broken.sum())} {what} of {broken.numel()} tokens "
                        "are not finite"
                    )
    return passes(f"results and gradients are finite at log-ratios of ±{FAR:g}, in float64 and float32")


def gradient_is_that_of(value: Callable[[Tensor], Tensor], at: Tokens, claims: frozenset[str]) -> Result:
    """Whether autograd gives what finite differences of a scalar function of the log-probabilities give."""
    slope = autograd(value, at.logprobs)[at.response]
    places = [(int(row), int(place)) for row, place in at.response.nonzero().tolist()]
    apart = difference(slope, finite_differences(value, at.logprobs, places, hold=False)[at.response])
    if apart <= GRADIENT:
        return passes(f"autograd is finite differences (max difference {apart:.1e})")
    held = finite_differences(value, at.logprobs, places, hold=True)[at.response]
    if (constant := difference(slope, held)) <= GRADIENT:
        if "stop_gradient" in claims:
            return passes(
                f"autograd is finite differences with its stop-gradient held constant (max difference {constant:.1e})"
            )
        return fails(
            f"the gradient is not that of the value (max difference {apart:.3g}), because a part is held constant; "
            'a rule that means it claims `RULE.claims = {"stop_gradient"}`'
        )
    return fails(f"autograd differs from finite differences (max difference {min(apart, constant):.3g})")


def _gradient(tested: TokenRule) -> Result:
    at = tokens()
    claims = claims_of(tested.rule) | (claims_of(tested.ratio) if tested.ratio is not None else frozenset())
    return gradient_is_that_of(lambda logprobs: tested.total(replace(at, logprobs=logprobs)), at, claims)


def _ratio_on_policy(tested: TokenRule) -> Result:
    at = tokens().on_policy()
    if rule_of(tested.rule) is ratio_ops.log_probability:
        return not_applicable("is the log-probability itself, not a ratio")
    found = tested(at)[at.response]
    return same([(found, torch.ones_like(found))], "is 1 on the policy that sampled", "is not 1 where nothing moved")


def _correction_on_policy(tested: TokenRule) -> Result:
    at = tokens().on_policy()
    found = tested(at)[at.response]
    return same([(found, torch.ones_like(found))], "is 1 where sampler and trainer agree", "is not 1 where both agree")


def _not_negative(tested: TokenRule) -> Result:
    least = min(float(tested(at)[at.response].min()) for at in (tokens(), far_tokens(FAR), far_tokens(2.0)))
    return passes(f"never negative (least {least:.3g})") if least >= 0 else fails(f"a weight is {least:.3g}, below 0")


def _weight_rises(tested: TokenRule) -> Result:
    """Rows whose every token has the same ratio, which rises from row to row; each is called alone."""
    for length, sign in product((1, 5), (1.0, -1.0)):
        weights = _alone(tested, _rising(length, sign))[:, 1:]
        falls = weights.diff(dim=0) < -TOLERANCE
        if falls.any():
            row = int(falls.any(1).nonzero()[0])
            low, high = RISING[row : row + 2]
            return fails(
                f"the weight falls from {float(weights[row].max()):.3g} to {float(weights[row + 1].min()):.3g} where "
                f"the ratio rises from {low:.2g} to {high:.2g}; the ratio is trainer / sampler, so that a token which "
                "the sampler drew too often, with a ratio below 1, has to count less"
            )
    return passes(f"does not fall where a response's ratios rise from {RISING[0]:g} to 1")


def _rising(length: int, sign: float) -> Tokens:
    """A row of this length for each of the ratios of `RISING`, after a prompt of one token."""
    response = (torch.arange(length + 1) > 0).expand(len(RISING), -1)
    inside = response.double()
    change = torch.tensor(RISING, dtype=torch.float64).log()[:, None] * inside
    prompts = torch.arange(len(RISING))
    return Tokens(-inside, -inside - change, -inside - change, sign * inside, response, prompts, -inside - change)


def _kl_at_reference(tested: TokenRule) -> Result:
    at = replace(tokens(), reference=tokens().logprobs)
    found = tested(at)
    return same([(found, torch.zeros_like(found))], "is 0 at the reference", "is not 0 where the policies are equal")


def _kl_mean(tested: TokenRule) -> Result:
    """The means over all tokens that a policy draws, for policies at several distances from their reference."""
    logits = torch.randn(2, 8, 5, generator=generator("kl"), dtype=torch.float64)
    means = []
    for spread in (0.1, 1.0, 3.0):
        policy, reference = (spread * logits).log_softmax(2)
        delta = policy - reference
        means.append((policy.exp() * returned("kl", tested.rule, call(tested.rule, delta), delta)).sum(1))
    least, most = float(torch.cat(means).min()), float(torch.cat(means).max())
    if least < -TOLERANCE:
        return fails(
            f"a policy that differs from its reference has a mean of {least:.3g} over the tokens that it draws: the "
            "penalty rewards it for going away; the rule is given log π − log π_ref, so look for a sign"
        )
    if most <= TOLERANCE:
        return fails("has a mean of 0 over the tokens of each policy, however far it is from its reference")
    return passes(f"{least:.2g} to {most:.2g} in the mean over the tokens of policies that differ from their reference")


def _homogeneous(tested: TokenRule) -> Result:
    at = tokens()
    pairs = []
    for factor in (0.25, 4.0):
        scaled = replace(at, advantage=factor * at.advantage)
        pairs += [(tested(scaled), factor * tested(at)), (tested.slope(scaled), factor * tested.slope(at))]
    return same(
        pairs,
        "a factor on the advantage is a factor on the result",
        "is not proportional to the advantage, on which correction weights are put",
    )


def _zero_advantage(tested: TokenRule) -> Result:
    at = replace(tokens(), advantage=torch.zeros_like(tokens().advantage))
    nothing = torch.zeros_like(at.logprobs)
    return same(
        [(tested(at)[at.response], nothing[at.response]), (tested.slope(at), nothing)],
        "no advantage, no gradient",
        "tokens without an advantage have a gradient",
    )


def _clip_on_policy(tested: TokenRule) -> Result:
    at = tokens().on_policy()
    weights = autograd(lambda numbers: _weighted(numbers, at), at.advantage)
    return same(
        [(tested.slope(at), weights * at.advantage)],
        "at a ratio of 1 the gradient is advantage · ∂ log π",
        f"at a ratio of 1 the gradient is not advantage · ∂ log π{_signs(tested.slope(at), at)}",
    )


def _weighted(numbers: Tensor, at: Tokens) -> Tensor:
    return TokenRule("ratio", lambda logprobs, old, response: logprobs).total(replace(at, logprobs=numbers))


def _signs(slope: Tensor, at: Tokens) -> str:
    wrong = (slope * at.advantage < 0)[at.response]
    return f": {int(wrong.sum())} of {wrong.numel()} tokens have the wrong sign" if wrong.any() else ""


def _direction(tested: TokenRule) -> Result:
    for spread in (0.3, 1.0, 3.0):
        at = tokens(spread)
        wrong = (tested.slope(at) * at.advantage < 0)[at.response]
        if wrong.any():
            return fails(
                f"{int(wrong.sum())} of {wrong.numel()} tokens are pushed against their advantage, at log-ratios of "
                f"some {spread:g}"
            )
    return passes("no token is pushed against its advantage, at log-ratios of some 0.3, 1 and 3")


def _way_back(tested: TokenRule) -> Result:
    """Each token has moved against its advantage, by a log-ratio of the same size."""
    for size in (0.3, 1.0):
        plain = tokens()
        old = plain.logprobs + size * plain.advantage.sign() * plain.response
        at = replace(plain, old=old, sampled=old)
        lost = (tested.slope(at) == 0)[at.response]
        if lost.any():
            said = (
                f"{int(lost.sum())} of {lost.numel()} tokens that have moved against their advantage have no gradient"
            )
            if "no_way_back" in claims_of(tested.rule):
                return not_applicable(f"{said}, by its claim")
            return fails(f'{said}, at log-ratios of {size:g}; a rule that means it claims `{{"no_way_back"}}`')
    return passes("a token that has moved against its advantage keeps its gradient, at log-ratios of 0.3 and 1")


_COMMON = (
    Check("shape", _right_shape),
    Check("determinism", _deterministic),
    Check("inputs unchanged", _inputs_unchanged),
    Check("order of rows", _rows_permuted),
    Check("rows alone", _rows_alone),
    Check("padding", _padding),
    Check("extreme log-ratios", _finite),
)
RATIO = (*_COMMON, Check("on policy", _ratio_on_policy), Check("gradient", _gradient))
CLIP = (
    *_COMMON,
    Check("on policy", _clip_on_policy),
    Check("direction", _direction),
    Check("way back", _way_back),
    Check("zero advantage", _zero_advantage),
    Check("scale of advantage", _homogeneous),
    Check("gradient", _gradient),
)
CORRECTION = (
    *_COMMON,
    Check("on policy", _correction_on_policy),
    Check("not negative", _not_negative),
    Check("direction", _weight_rises),
)
KL = (
    *_COMMON,
    Check("at the reference", _kl_at_reference),
    Check("mean not negative", _kl_mean),
    Check("gradient", _gradient),
)
