"""Formulas of the rules on tokens: ratio, surrogate, KL, correction, aggregation, value loss and preference loss."""

from winnow.explain.expression import ONE, Expression
from winnow.explain.functions import clamp, either, exp, indicator, log_sigmoid, maximum, minimum, stop
from winnow.explain.registry import Formula, formula
from winnow.explain.symbols import LOGP, PI, PI_OF_RESPONSE, PI_OLD, PI_OLD_OF_RESPONSE, RESPONSE_LENGTH
from winnow.ops import aggregate, kl, preference, ratio, value
from winnow.ops import clip as clips

BOUNDED = f"a log-ratio is kept within ±{ratio.MAX_LOG_RATIO:g}, where every clipping rule has long acted"


@formula(ratio.log_probability)
def _(logprobs: Expression) -> Expression:
    return logprobs


@formula(ratio.token)
def _() -> Formula:
    return Formula(PI / PI_OLD, notes=(BOUNDED,))


@formula(ratio.sequence_product)
def _() -> Formula:
    return Formula(PI_OF_RESPONSE / PI_OLD_OF_RESPONSE, notes=(BOUNDED,))


@formula(ratio.sequence)
def _() -> Formula:
    mean_log_ratio = (PI_OF_RESPONSE / PI_OLD_OF_RESPONSE) ** (ONE / RESPONSE_LENGTH)
    return Formula(mean_log_ratio, notes=(BOUNDED,))


@formula(clips.unclipped)
def _(ratio: Expression, advantage: Expression) -> Expression:
    return ratio * advantage


@formula(clips.ppo)
def ppo(ratio: Expression, advantage: Expression, low: float, high: float) -> Expression:
    return minimum(ratio * advantage, clamp(ratio, 1 - low, 1 + high) * advantage)


@formula(clips.dual)
def _(ratio: Expression, advantage: Expression, low: float, high: float, c: float) -> Expression:
    pessimistic = ppo(ratio, advantage, low, high)
    if advantage == ONE:
        return pessimistic
    return either(advantage < 0, maximum(pessimistic, c * advantage), pessimistic)


@formula(clips.ratio_min)
def _(ratio: Expression, advantage: Expression, low: float, high: float) -> Expression:
    return minimum(ratio, clamp(ratio, 1 - low, 1 + high)) * advantage


@formula(clips.cispo)
def _(ratio: Expression, advantage: Expression, low: float, high: float) -> Formula:
    bounded = clamp(ratio, 1 - low, 1 + high)
    return Formula(stop(bounded / ratio) * ratio * advantage, slope=stop(bounded) * advantage * LOGP)


@formula(ratio.uncorrected)
def _() -> Expression:
    return ONE


@formula(ratio.truncated)
def _(ratio: Expression, cap: float) -> Expression:
    return minimum(ratio, cap)


@formula(ratio.masked)
def _(ratio: Expression, cap: float, floor: float) -> Expression:
    inside = (ratio <= cap) if floor <= 0 else (ratio >= floor) & (ratio <= cap)
    return ratio * indicator(inside)


@formula(kl.k1)
def _(delta: Expression) -> Expression:
    return delta


@formula(kl.k2)
def _(delta: Expression) -> Expression:
    return delta**2 / 2


@formula(kl.k3)
def _(delta: Expression) -> Expression:
    return exp(-delta) - 1 + delta


@formula(aggregate.sequence_mean)
def _(lengths: Expression) -> Formula:
    return Formula(1 / lengths, count=ONE)


@formula(aggregate.token_mean)
def _(lengths: Expression) -> Formula:
    return Formula(ONE, count=lengths)


@formula(aggregate.sequence_sum)
def _(lengths: Expression) -> Formula:
    return Formula(ONE, count=ONE)


@formula(aggregate.constant_length)
def _(lengths: Expression, length: int) -> Formula:
    return Formula(ONE, count=length * ONE)


@formula(value.clipped_value_loss)
def _(values: Expression, old: Expression, returns: Expression, clip: float) -> Expression:
    near = clamp(values, old - clip, old + clip)
    return maximum((values - returns) ** 2, (near - returns) ** 2) / 2


@formula(preference.sigmoid)
def _(chosen: Expression, rejected: Expression, beta: float, smoothing: float) -> Expression:
    margin = chosen - rejected
    return -(1 - smoothing) * log_sigmoid(beta * margin) - smoothing * log_sigmoid(-(beta * margin))
