"""Formulas of preference pairs: their selection, the losses of a pair and the divergences behind its scores."""

from winnow.explain.expression import Apply, Expression, Symbol
from winnow.explain.functions import equal, exp, log, log_sigmoid, maximum, rank_from_bottom, rank_from_top, sigmoid
from winnow.explain.operations import CHOSEN, REJECTED
from winnow.explain.registry import Formula, formula
from winnow.explain.sample_formulas import TIES
from winnow.ops import preference, select
from winnow.ops.ratio import MAX_LOG_RATIO

BOUNDED = f"an exponent is kept within ±{MAX_LOG_RATIO:g}"


@formula(select.extremes)
def _(rewards: Expression, pairs: int) -> Formula:
    """The condition on samples i and j of a prompt to make a pair of chosen and rejected."""
    chosen = Symbol("r(a⁺)", "r(a^+)", "", "", Apply(CHOSEN, (rewards,)))
    rejected = Symbol("r(a⁻)", "r(a^-)", "", "", Apply(REJECTED, (rewards,)))
    place = Symbol(
        "rank↓(a⁺)",
        r"\operatorname{rank}^{\downarrow}(a^+)",
        "",
        "its place among the prompt's samples, the highest reward first",
        Apply(CHOSEN, (rank_from_top(rewards),)),
    )
    other = Symbol(
        "rank↑(a⁻)",
        r"\operatorname{rank}^{\uparrow}(a^-)",
        "",
        "its place among the prompt's samples, the lowest reward first",
        Apply(REJECTED, (rank_from_bottom(rewards),)),
    )
    return Formula(equal(place, other) & (place <= pairs) & (chosen > rejected), notes=(TIES,))


@formula(preference.sigmoid)
def _(chosen: Expression, rejected: Expression, beta: float, smoothing: float) -> Expression:
    margin = chosen - rejected
    return -(1 - smoothing) * log_sigmoid(beta * margin) - smoothing * log_sigmoid(-(beta * margin))


@formula(preference.robust)
def _(chosen: Expression, rejected: Expression, beta: float, smoothing: float) -> Expression:
    margin = beta * (chosen - rejected)
    both = smoothing * log_sigmoid(-margin) - (1 - smoothing) * log_sigmoid(margin)
    return both / (1 - 2 * smoothing)


@formula(preference.hinge)
def _(chosen: Expression, rejected: Expression, beta: float) -> Expression:
    return maximum(1 - beta * (chosen - rejected), 0)


@formula(preference.ipo)
def _(
    chosen: Expression,
    rejected: Expression,
    beta: float,
    chosen_lengths: Expression,
    rejected_lengths: Expression,
) -> Expression:
    return (chosen / chosen_lengths - rejected / rejected_lengths - 1 / (2 * beta)) ** 2


@formula(preference.exo)
def _(chosen: Expression, rejected: Expression, beta: float, smoothing: float) -> Expression:
    margin = beta * (chosen - rejected)
    better = sigmoid(margin) * (log_sigmoid(margin) - log(1 - smoothing))
    return better + sigmoid(-margin) * (log_sigmoid(-margin) - log(smoothing))


@formula(preference.sppo)
def _(chosen: Expression, rejected: Expression, beta: float) -> Expression:
    return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2


@formula(preference.reverse_kl)
def _(log_ratio: Expression) -> Expression:
    return log_ratio


@formula(preference.forward_kl)
def _(log_ratio: Expression) -> Formula:
    return Formula(1 - exp(-log_ratio), notes=(BOUNDED,))


@formula(preference.jensen_shannon)
def _(log_ratio: Expression) -> Expression:
    return log(2) + log_sigmoid(log_ratio)


@formula(preference.alpha)
def _(log_ratio: Expression, order: float) -> Formula:
    return Formula((exp((order - 1) * log_ratio) - 1) / (order - 1), notes=(BOUNDED,))
