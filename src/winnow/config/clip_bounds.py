"""Claims about bounds of clipping that are made for another quantity than the one that they bound."""

from math import sqrt

from winnow.config.linting import Kind, LinterRule, Setup
from winnow.explain.registry import settings_of
from winnow.ops import clip, ratio
from winnow.rule import rule_of

CUT_OFF_OUTSIDE = (clip.ppo, clip.dual, clip.stale_negatives_left_out)
"""Rules without a gradient where the ratio has left [1 − low, 1 + high] in the direction of the advantage."""
OF_TOKENS, OF_RESPONSES = 0.01, 0.05
"""Bounds below the one are unheard of for ratios of tokens, and above the other for mean ratios of responses."""
LARGEST_TOTAL_VARIATION = 0.2
"""The threshold of algo/clip=dppo."""


def _bounds(setup: Setup) -> tuple[float, float] | None:
    settings = settings_of(setup.algorithm.clip)
    low, high = settings.get("low"), settings.get("high")
    return (low, high) if isinstance(low, int | float) and isinstance(high, int | float) else None


def bounds_of_responses_on_tokens(setup: Setup) -> str | None:
    bounds = _bounds(setup)
    if bounds is None or setup.updates == 1 or rule_of(setup.algorithm.clip) not in CUT_OFF_OUTSIDE:
        return None
    if rule_of(setup.algorithm.ratio) is not ratio.token or max(bounds) >= OF_TOKENS:
        return None
    low, high = bounds
    return (
        f"a token whose ratio has left [{1 - low:g}, {1 + high:g}] in the direction of its advantage has no gradient: "
        "such bounds are made for the mean ratio of a response; type algo/ratio=sequence, or algo/clip=ppo"
    )


def bounds_of_tokens_on_responses(setup: Setup) -> str | None:
    bounds = _bounds(setup)
    if bounds is None or setup.updates == 1 or rule_of(setup.algorithm.clip) not in CUT_OFF_OUTSIDE:
        return None
    if rule_of(setup.algorithm.ratio) is not ratio.sequence or max(bounds) < OF_RESPONSES:
        return None
    low, high = bounds
    return (
        "algo/ratio=sequence is the geometric mean over a response's tokens: the ratio of n of them together may reach "
        f"{1 - low:g}^n and {1 + high:g}^n before clipping acts; type algo/clip=gspo for bounds of its size"
    )


def thresholds_of_total_variation_on_a_kl(setup: Setup) -> str | None:
    """By Pinsker's inequality KL ≥ 2 · TV², with near equality where both outcomes are as likely."""
    bounds, settings = _bounds(setup), settings_of(setup.algorithm.clip)
    if setup.updates == 1 and setup.samples_exactly:
        return None
    if bounds is None or rule_of(setup.algorithm.clip) is not clip.dppo or settings.get("divergence") != "kl":
        return None
    reach = sqrt(max(bounds) / 2)
    if reach <= LARGEST_TOTAL_VARIATION:
        return None
    return (
        f"algo.clip.divergence=kl with a threshold of {max(bounds):g} nats lets a token's probability move by almost "
        f"{reach:.2g}, which is more than algo/clip=dppo does; type algo/clip=dppo_kl for the thresholds of a KL"
    )


RULES = (
    LinterRule(bounds_of_responses_on_tokens, Kind.BOUNDS),
    LinterRule(bounds_of_tokens_on_responses, Kind.BOUNDS),
    LinterRule(thresholds_of_total_variation_on_a_kl, Kind.BOUNDS),
)
