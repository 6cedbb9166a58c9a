"""Formulas of the rules on samples: selection and advantage."""

from winnow.explain.domains import (
    EVERY_TOKEN,
    GROUP,
    ITERATION,
    OTHERS,
    Domain,
    highest,
    later,
    lowest,
    mean,
    some,
    std,
    var,
)
from winnow.explain.expression import ONE, TRUE, ZERO, Apply, Expression, Symbol
from winnow.explain.functions import either, equal, maximum, minimum, rank_from_bottom, rank_from_top, sqrt
from winnow.explain.operations import CHOSEN, NEXT, REJECTED
from winnow.explain.registry import Formula, formula
from winnow.explain.symbols import INSIDE
from winnow.ops import advantage, select

TIES = "rewards that differ by rounding alone count as equal"


@formula(select.all_samples)
def _() -> Expression:
    return TRUE


@formula(select.positive)
def _(correct: Expression) -> Expression:
    return correct


@formula(select.negative)
def _(correct: Expression) -> Expression:
    return ~correct


@formula(select.best)
def _(rewards: Expression, correct: Expression) -> Formula:
    return Formula(correct & equal(rewards, highest(rewards, GROUP, where=correct)), notes=(TIES,))


@formula(select.not_all_wrong)
def _(correct: Expression) -> Expression:
    return some(correct, GROUP)


@formula(select.not_all_correct)
def _(correct: Expression) -> Expression:
    return some(~correct, GROUP)


@formula(select.mixed_prompts)
def _(correct: Expression) -> Expression:
    return some(correct, GROUP) & some(~correct, GROUP)


@formula(advantage.one)
def _() -> Expression:
    return ONE


@formula(advantage.reward)
def _(rewards: Expression, penalty: Expression) -> Expression:
    return rewards - penalty


@formula(advantage.signed)
def _(rewards: Expression, penalty: Expression, w_pos: float, w_neg: float) -> Expression:
    shaped = rewards - penalty
    return w_pos * maximum(shaped, 0) + w_neg * minimum(shaped, 0)


def all_equal(of: Expression, domain: Domain) -> Expression:
    return equal(lowest(of, domain), highest(of, domain))


def _baseline(of: Expression, centre: str) -> Expression:
    baselines = {"none": ZERO, "mean": mean(of, GROUP), "leave_one_out": mean(of, OTHERS)}
    return baselines[centre]


@formula(advantage.group)
def _(rewards: Expression, penalty: Expression, centre: str, scale: str, eps: float) -> Formula:
    shaped = rewards - penalty
    centred = shaped - _baseline(shaped, centre)
    deviation = {"none": ONE, "std": std(shaped, GROUP) + eps}[scale]
    if scale == "none" or (centre != "none" and penalty == ZERO):
        return Formula(centred / deviation, notes=(TIES,) if scale == "std" else ())
    # Where rewards tie, only the penalty remains, and nothing is divided by what would be rounding or ε.
    remaining = -penalty - _baseline(-penalty, centre)
    return Formula(either(all_equal(rewards, GROUP), remaining, centred / deviation), notes=(TIES,))


@formula(advantage.whitened)
def _(rewards: Expression, penalty: Expression, eps: float) -> Formula:
    shaped = rewards - penalty
    white = (shaped - mean(shaped, ITERATION)) / (std(shaped, ITERATION) + eps)
    if penalty == ZERO:
        return Formula(white, notes=(TIES,))
    remaining = -penalty - mean(-penalty, ITERATION)
    return Formula(either(all_equal(rewards, ITERATION), remaining, white), notes=(TIES,))


@formula(advantage.gae)
def _(rewards: Expression, values: Expression, gamma: float, lam: float) -> Expression:
    following = Symbol(
        "V_{t+1}", "V_{t+1}", "", "the next token's value, 0 after the last", Apply(NEXT, (values, INSIDE))
    )
    delta = rewards + gamma * following - values
    return later(delta, gamma * lam)


@formula(advantage.whiten_tokens)
def _(advantages: Expression, eps: float) -> Expression:
    return (advantages - mean(advantages, EVERY_TOKEN)) / sqrt(var(advantages, EVERY_TOKEN) + eps)


@formula(select.extremes)
def _(rewards: Expression, pairs: int) -> Formula:
    """The condition on samples i and j of a prompt to make a pair of chosen and rejected."""
    chosen = Symbol("r(a⁺)", "r(a^+)", "", "", Apply(CHOSEN, (rewards,)))
    rejected = Symbol("r(a⁻)", "r(a^-)", "", "", Apply(REJECTED, (rewards,)))
    place = Symbol(
        "rank↓(a⁺)", r"\operatorname{rank}^{\downarrow}(a^+)", "", "", Apply(CHOSEN, (rank_from_top(rewards),))
    )
    other = Symbol(
        "rank↑(a⁻)", r"\operatorname{rank}^{\uparrow}(a^-)", "", "", Apply(REJECTED, (rank_from_bottom(rewards),))
    )
    return Formula(equal(place, other) & (place <= pairs) & (chosen > rejected), notes=(TIES,))
