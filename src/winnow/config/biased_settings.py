"""Claims that a gradient is not the one that a name promises, or that nothing bounds a quantity."""

from math import inf

from winnow.config.linting import OF_LOG_PROBABILITY, Kind, LinterRule, Setup
from winnow.explain.registry import settings_of
from winnow.ops import advantage, aggregate, clip, kl, ratio, select
from winnow.rule import rule_of

WEIGHT_IS_BOUNDED = (clip.topr, clip.vespo, clip.cispo, clip.sapo, clip.dppo, clip.cpgd, clip.ratio_min)
"""Rules under which the factor of advantage · ∂ log π is bounded, whatever the ratio is."""
MAY_KEEP_WRONG_SAMPLES = (
    select.all_samples,
    select.negative,
    select.mixed_prompts,
    select.not_all_wrong,
    select.not_all_correct,
)


def k3_in_the_loss_is_the_forward_kl(setup: Setup) -> str | None:
    term = setup.algorithm.objective.kl_in_loss
    if term is None or rule_of(term.estimator) is not kl.k3 or term.weight != "none" or term.clamp is not None:
        return None
    if not setup.every_row_is_in_the_loss:
        return None
    by_token = rule_of(setup.algorithm.aggregate) in (aggregate.sequence_sum, aggregate.constant_length)
    weighed = "" if by_token else ", weighed by length,"
    return (
        "algo/kl=k3 in the loss has on average, at each token of the policy that sampled, the gradient of "
        f"KL(π_ref‖π){weighed} and not that of KL(π‖π_ref); type algo/kl=k2, or algo.kl.weight=ratio"
    )


def k2_times_the_ratio_is_not_the_kl(setup: Setup) -> str | None:
    term = setup.algorithm.objective.kl_in_loss
    if term is None or rule_of(term.estimator) is not kl.k2 or term.weight != "ratio" or term.clamp is not None:
        return None
    if term.is_of_previous and setup.updates == 1:  # where the difference is 0
        return None
    return (
        "algo/kl=k2 is the KL's gradient without algo.kl.weight=ratio, which adds that of the mean of "
        "(log π − log π_ref)²/2, the difference held fixed; type algo/kl=k3, or algo.kl.weight=none"
    )


def lengths_divide_gradients(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.aggregate) is not aggregate.sequence_mean:
        return None
    of_product = rule_of(setup.algorithm.ratio) is ratio.sequence_product
    if of_product and rule_of(setup.algorithm.clip) not in OF_LOG_PROBABILITY:
        return None  # each of a response's tokens has the gradient of their product, as often as there are tokens
    return (
        "algo/aggregate=sequence_mean divides a response's gradient by its length: short ones of positive and long "
        "ones of negative advantage gain (algo/aggregate=constant_length does not divide)"
    )


def deviations_weigh_prompts(setup: Setup) -> str | None:
    rule = rule_of(setup.algorithm.advantage)
    scales = rule is advantage.group and setup.advantage_setting("scale") == "std"
    if not (scales or rule is advantage.each_reward):
        return None
    if setup.samples < 4:  # two or three samples that differ in a verdict all have one deviation
        return None
    by, without = (
        ("algo.advantage.scale=std", "scale=none")
        if scales
        else ("algo/advantage=each_reward", "algo/advantage=centred")
    )
    return (
        f"{by} divides a prompt's gradient by the deviation of its rewards: prompts that are nearly all right or all "
        f"wrong weigh most ({without} does not)"
    )


def product_of_ratios_grows(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.ratio) is not ratio.sequence_product or setup.updates == 1:
        return None
    rule, floor = rule_of(setup.algorithm.clip), settings_of(setup.algorithm.clip).get("c", inf)
    floored = rule is clip.dual and isinstance(floor, int | float) and floor < inf
    pessimistic = rule in (clip.ppo, clip.dual) and setup.no_advantage_is_negative
    if rule in WEIGHT_IS_BOUNDED or floored or pessimistic:
        return None
    return (
        "algo/ratio=sequence_product multiplies the second moments of its tokens' ratios, so that its variance grows "
        "exponentially with length; algo/ratio=sequence takes the geometric mean"
    )


def nothing_bounds_the_ratio(setup: Setup) -> str | None:
    uses_ratio = setup.algorithm.objective.uses_ratio
    if not uses_ratio or rule_of(setup.algorithm.clip) is not clip.unclipped or setup.updates == 1:
        return None
    if rule_of(setup.algorithm.ratio) is ratio.clipped_geometric:  # its tokens are bounded before their mean
        return None
    return (
        f"{setup.updates} updates per iteration and algo/clip=none: a token's gradient grows with its ratio, without "
        "a bound; type algo/clip=ppo"
    )


def ones_pull_up_wrong_samples(setup: Setup) -> str | None:
    """Maximum likelihood on a set that has wrong samples in it."""
    rule = rule_of(setup.algorithm.select)
    if rule_of(setup.algorithm.advantage) is not advantage.one or rule not in MAY_KEEP_WRONG_SAMPLES:
        return None
    which = "are all wrong" if rule is select.negative else "may be wrong"
    return (
        "algo/advantage=one makes every sample more probable that algo/select keeps, and these "
        f"{which}; type algo/select=best, or algo/advantage=reward"
    )


RULES = (
    LinterRule(k3_in_the_loss_is_the_forward_kl, Kind.BIASED),
    LinterRule(k2_times_the_ratio_is_not_the_kl, Kind.BIASED),
    LinterRule(lengths_divide_gradients, Kind.BIASED, quiet=True),
    LinterRule(deviations_weigh_prompts, Kind.BIASED, quiet=True),
    LinterRule(product_of_ratios_grows, Kind.UNSTABLE),
    LinterRule(nothing_bounds_the_ratio, Kind.UNSTABLE),
    LinterRule(ones_pull_up_wrong_samples, Kind.BIASED),
)
