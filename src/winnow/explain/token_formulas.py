"""Formulas of the rules on tokens: ratio, surrogate, KL, correction, aggregation and value loss."""

from math import log1p

from winnow.explain.domains import EVERY_TOKEN, SAME_PROMPT, TOKENS, highest, mean, total
from winnow.explain.expression import ONE, TRUE, Apply, Expression, Symbol
from winnow.explain.functions import (
    absolute,
    clamp,
    either,
    exp,
    indicator,
    log,
    maximum,
    minimum,
    sigmoid,
    sign,
    stop,
)
from winnow.explain.notation import UNICODE
from winnow.explain.operations import kth_highest
from winnow.explain.registry import Formula, formula
from winnow.explain.symbols import (
    INSIDE,
    LOG_CHANGE,
    LOGP,
    MU,
    PI,
    PI_OF_RESPONSE,
    PI_OLD,
    PI_OLD_OF_RESPONSE,
    RESPONSE_LENGTH,
)
from winnow.ops import aggregate, kl, ratio, tokens, value
from winnow.ops import clip as clips

BOUNDED = f"a log-ratio is kept within ±{ratio.MAX_LOG_RATIO:g}; beyond, the ratio is a constant, without a gradient"


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
    return ratio * indicator(within(ratio, floor, cap))


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


@formula(aggregate.prompt_mean)
def _(lengths: Expression) -> Formula:
    size = Symbol("T_x", "T_x", "", "the tokens of D's responses to the prompt", total(lengths, SAME_PROMPT))
    rows = Symbol("n_x", "n_x", "", "the number of D's responses to the prompt", total(lengths / lengths, SAME_PROMPT))
    return Formula(1 / size, count=1 / rows)


@formula(ratio.clipped_geometric)
def _(advantage: Expression, low: float, high: float) -> Formula:
    side = sign(advantage)
    bounded = side * minimum(side * LOG_CHANGE, side * clamp(LOG_CHANGE, -low, high))
    return Formula(exp(mean(bounded, TOKENS)), notes=(BOUNDED,))


def by_sign(name: tuple[str, str], of: Expression, positive: float, negative: float, zero: str = "negative") -> Symbol:
    """A setting that depends on the sign of the advantage."""
    condition, text = (of >= 0, "A ≥ 0") if zero == "positive" else (of > 0, "A > 0")
    meaning = f"{positive:g} where {text}, else {negative:g}"
    return Symbol(*name, "", meaning, either(condition, positive, negative))


@formula(clips.sapo)
def _(ratio: Expression, advantage: Expression, positive: float, negative: float) -> Expression:
    rate = by_sign(("τ", r"\tau"), advantage, positive, negative)
    return sigmoid(rate * (ratio - 1)) * 4 / rate * advantage


@formula(clips.topr)
def _(ratio: Expression, advantage: Expression, logprobs: Expression) -> Expression:
    return either(advantage > 0, 1, stop(minimum(ratio, 1))) * advantage * logprobs


@formula(clips.vespo)
def _(
    ratio: Expression,
    advantage: Expression,
    logprobs: Expression,
    k_pos: float,
    lambda_pos: float,
    k_neg: float,
    lambda_neg: float,
) -> Expression:
    k = by_sign(("k", "k"), advantage, k_pos, k_neg, zero="positive")
    rate = by_sign(("λ", r"\lambda"), advantage, lambda_pos, lambda_neg, zero="positive")
    return stop(ratio**k * exp(rate * (1 - ratio))) * advantage * logprobs


@formula(clips.cpgd)
def _(advantage: Expression, low: float, high: float) -> Expression:
    bounded = clamp(LOG_CHANGE, log(1 - low), log(1 + high))
    return minimum(LOG_CHANGE * advantage, bounded * advantage)


@formula(clips.dppo)
def _(
    ratio: Expression,
    advantage: Expression,
    logprobs: Expression,
    low: float,
    high: float,
    cap: float,
    divergence: str,
) -> Expression:
    p, q = (clamp(of, clips.TINY, 1 - clips.TINY) for of in (MU, PI))
    moved, meaning = {
        "tv": (absolute(PI - MU), "|π(a_t) − μ(a_t)|"),
        "kl": (
            p * log(p / q) + (1 - p) * log((1 - p) / (1 - q)),
            "KL(μ‖π) of two outcomes, this token or another",
        ),
    }[divergence]
    d = Symbol("d_t", "d_t", "", meaning, moved)
    up = (advantage > 0) & (PI > MU) & (d > high)
    down = (advantage <= 0) & (PI < MU) & (d > low)
    return stop(minimum(ratio, cap)) * advantage * logprobs * indicator(~(up | down))


@formula(clips.stale_negatives_left_out)
def _(ratio: Expression, advantage: Expression, low: float, high: float, delta: float) -> Expression:
    kept = (advantage >= 0) | (mean(log(MU / PI), TOKENS) <= delta)
    return ppo(ratio, advantage, low, high) * indicator(kept)


def within(of: Expression, floor: float, cap: float) -> Expression:
    return of <= cap if floor <= 0 else (of >= floor) & (of <= cap)


def _of_response(ratio: Expression) -> Symbol:
    return Symbol("ρ(a)", r"\rho(a)", "", "the product of ρ_t over the response", exp(total(log(ratio), TOKENS)))


@formula(ratio.sequence_truncated)
def _(ratio: Expression, cap: float) -> Expression:
    return minimum(_of_response(ratio), cap)


@formula(ratio.sequence_masked)
def _(ratio: Expression, cap: float, floor: float) -> Expression:
    whole = _of_response(ratio)
    return whole * indicator(within(whole, floor, cap))


@formula(ratio.geometric_masked)
def _(ratio: Expression, cap: float, floor: float) -> Expression:
    return indicator(within(_of_response(ratio) ** (ONE / RESPONSE_LENGTH), floor, cap))


@formula(ratio.trust_region_masked)
def _(ratio: Expression, delta: float) -> Expression:
    return indicator(highest(ratio - 1 - log(ratio), TOKENS) <= delta)


@formula(ratio.negative_rows_masked)
def _(ratio: Expression, advantage: Expression, delta: float) -> Expression:
    return indicator((advantage >= 0) | (mean(-log(ratio), TOKENS) <= delta))


@formula(kl.drift)
def _(delta: Expression, cap: float) -> Expression:
    near = minimum(delta, log1p(cap))
    return exp(near) - 1 - near + cap * (delta - near)


@formula(tokens.every_token)
def _() -> Expression:
    return TRUE


def _limit(of: Expression, share: float, name: str) -> Symbol:
    meaning = (
        f"the lowest {name} among the {100 * share:g} % of all tokens of the iteration's batch where it is highest"
    )
    return Symbol("q", "q", "", meaning, Apply(kth_highest(share), (of, INSIDE)))


@formula(tokens.top_entropy)
def _(entropies: Expression, share: float) -> Expression:
    return entropies >= _limit(entropies, share, "h_t")


@formula(tokens.low_covariance)
def _(logprobs: Expression, advantage: Expression, share: float) -> Expression:
    product = (logprobs - mean(logprobs, EVERY_TOKEN)) * (advantage - mean(advantage, EVERY_TOKEN))
    of = UNICODE.text(advantage)
    meaning = f"(log μ(a_t) − mean_T(log μ(a_t)))·({of} − mean_T({of})), T the tokens of the iteration's batch"
    covariance = Symbol("c_t", "c_t", "", meaning, product)
    return (covariance < _limit(covariance, share, "c_t")) | (covariance <= 0)
