"""Formulas of the rules on samples: selection and advantage."""

from winnow.explain.domains import (
    EVERY_TOKEN,
    GROUP,
    ITERATION,
    OTHERS,
    PARTS,
    Domain,
    highest,
    later,
    lowest,
    mean,
    some,
    std,
    total,
    var,
)
from winnow.explain.expression import ONE, TRUE, ZERO, Apply, Expression, Symbol
from winnow.explain.functions import choose, either, equal, indicator, maximum, minimum, sqrt
from winnow.explain.operations import NEXT
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


@formula(advantage.batch)
def _(rewards: Expression, penalty: Expression, spread: str, eps: float) -> Formula:
    shaped = rewards - penalty
    centred = shaped - mean(shaped, GROUP)
    scaled = centred / (std({"rewards": shaped, "advantages": centred}[spread], ITERATION) + eps)
    tied = all_equal(rewards, ITERATION)
    return Formula(scaled if penalty == ZERO else either(tied, centred, scaled), notes=(TIES,))


@formula(advantage.over_pass_rate)
def _(correct: Expression) -> Expression:
    rate = Symbol("p", "p", "", "the share of correct samples of the prompt", mean(indicator(correct), GROUP))
    return either(rate > 0, (indicator(correct) - rate) / rate, 0)


@formula(advantage.length_weighted)
def _(rewards: Expression, lengths: Expression) -> Formula:
    return Formula(rewards - total(lengths * rewards, GROUP) / total(lengths, GROUP), notes=(TIES,))


@formula(advantage.each_reward)
def _(parts: Expression, weights: Expression, eps: float) -> Formula:
    standardised = (parts - mean(parts, GROUP)) / (std(parts, GROUP) + eps)
    meaning = f"Σ_m ω_m·(r_m − mean_G(r_m))/(std_G(r_m) + {eps:g}), r_m and ω_m reward and weight of function m"
    added = Symbol("S", "S", "", meaning, total(weights * standardised, PARTS))
    return Formula((added - mean(added, ITERATION)) / (std(added, ITERATION) + eps), notes=(TIES,))


@formula(advantage.pass_at_k)
def _(correct: Expression, k: int, eps: float) -> Formula:
    wrong = Symbol("W", "W", "", "the wrong samples of the prompt", total(indicator(~correct), GROUP))
    size = Symbol("G", "G", "", "the samples of the prompt", wrong + total(indicator(correct), GROUP))
    none_of_all = choose(wrong, k) / choose(size, k)
    fails = Symbol("f", "f", "", f"C(W, {k})/C(G, {k}), the chance that {k} samples have no correct one", none_of_all)
    others = choose(wrong - 1, k - 1) / choose(size - 1, k - 1)
    advantages = either(correct, fails, fails - others) / (sqrt(fails * (1 - fails)) + eps)
    return Formula(advantages, notes=(f"of a prompt with fewer than {k} samples, all of them take the place of {k}",))
