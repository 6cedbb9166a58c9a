"""Claims that settings have no effect, or that another configuration is the same but for a stated factor."""

from itertools import pairwise

from winnow.config.linting import Kind, LinterRule, Setup
from winnow.ops import advantage, aggregate, clip, select, tokens
from winnow.rule import rule_of

PROMPTS_WITH = {
    select.mixed_prompts: "all right or all wrong",
    select.not_all_wrong: "all wrong",
    select.not_all_correct: "all right",
}
"""The prompts that a rule of selection leaves out."""
BY_ROW = (aggregate.sequence_mean, aggregate.token_mean, aggregate.sequence_sum, aggregate.constant_length)
"""Aggregations in which the weight of a row does not depend on the other rows of its batch."""


def rewards_of_zero_select(setup: Setup) -> str | None:
    """Reinforce with 0/1 rewards: a wrong sample has no gradient."""
    rewards = setup.verdicts
    if rule_of(setup.algorithm.advantage) is not advantage.reward or setup.is_shaped or rewards is None:
        return None
    if (rewards.wrong, rewards.no_answer) != (0, 0) or setup.algorithm.objective.moves_without_advantage:
        return None
    if setup.algorithm.chooses_tokens or rule_of(setup.algorithm.aggregate) not in BY_ROW:
        return None
    if rule_of(setup.algorithm.select) is select.negative:  # which keeps none of the correct: refused before a run
        return None
    times = "" if rewards.correct == 1 else f" times {rewards.correct:g}"
    share = (
        "equal under algo.rejected=zero"
        if setup.algorithm.rejected == "zero"
        else "times the share of the correct in each optimiser batch's denominator (equal under algo.rejected=zero)"
    )
    kept = " of the prompts that algo/select keeps" if rule_of(setup.algorithm.select) in PROMPTS_WITH else ""
    correct = f"algo/advantage=one on the correct samples{kept}"
    return f"a reward of 0 has no gradient: the loss is that of {correct}{times}, {share}"


def centring_rejects_uniform_prompts(setup: Setup) -> str | None:
    rule = rule_of(setup.algorithm.select)
    if rule not in PROMPTS_WITH or rule_of(setup.algorithm.advantage) is not advantage.group:
        return None
    if setup.advantage_setting("centre") == "none" or setup.is_shaped or setup.algorithm.truncated == "drop":
        return None
    if setup.algorithm.chooses_tokens:
        return None
    if setup.verdicts is None or not setup.verdicts.are_two or setup.algorithm.objective.moves_without_advantage:
        return None
    changes = "nothing" if setup.algorithm.rejected == "zero" else "nothing but the denominator"
    return (
        f"samples of prompts that are {PROMPTS_WITH[rule]} have an advantage of 0 in any case: "
        f"algo/select={rule.__name__} changes {changes}"
    )


def leaving_one_out_is_a_factor(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.advantage) is not advantage.group or setup.samples < 2 or not setup.keeps_all_drawn:
        return None
    if setup.advantage_setting("centre") != "leave_one_out":
        return None
    g = setup.samples
    return (
        f"algo.advantage.centre=leave_one_out gives {g}/{g - 1} times the advantages of centre=mean, where all {g} "
        "samples of a prompt are usable"
    )


def two_samples_have_one_size(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.advantage) is not advantage.group or setup.samples != 2 or setup.is_shaped:
        return None
    if not setup.keeps_all_drawn:
        return None
    if (setup.advantage_setting("centre"), setup.advantage_setting("scale")) != ("mean", "std"):
        return None
    eps, apart = setup.advantage_setting("eps"), 1.0
    if setup.verdicts is not None:
        rewards = sorted({setup.verdicts.correct, setup.verdicts.wrong, setup.verdicts.no_answer})
        apart = min((b - a for a, b in pairwise(rewards)), default=0.0)
    if not (isinstance(eps, int | float) and eps <= 1e-5 * apart):
        return None
    return "two samples whose rewards differ by far more than algo.advantage.eps have advantages of ±0.7071"


def lower_bound_never_binds(setup: Setup) -> str | None:
    rule = rule_of(setup.algorithm.clip)
    if not setup.no_advantage_is_negative or rule not in (clip.ppo, clip.dual):
        return None
    more = " and algo.clip.c change" if rule is clip.dual else " changes"
    return f"no advantage is negative, so algo.clip.low{more} nothing"


def the_lower_bound_of_ratio_min_never_binds(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.clip) is not clip.ratio_min:
        return None
    return "algo/clip=ratio_min is min(s, 1 + high) · A, so algo.clip.low changes nothing"


def cpgd_reads_no_ratio(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.clip) is not clip.cpgd or not setup.algorithm.objective.uses_ratio:
        return None
    return "algo/clip=cpgd reads log π and log π_old, so algo/ratio changes nothing"


def other_clips_are_ppo(setup: Setup) -> str | None:
    rule = rule_of(setup.algorithm.clip)
    if not setup.no_advantage_is_negative or rule not in (clip.dual, clip.ratio_min):
        return None
    return f"no advantage is negative, so algo/clip={rule.__name__} is algo/clip=ppo"


def a_signed_weight_has_no_rewards(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.advantage) is not advantage.signed or setup.is_shaped or setup.verdicts is None:
        return None
    rewards, rule = setup.verdicts, rule_of(setup.algorithm.select)
    kept_wrong = () if rule in (select.positive, select.best) else (rewards.wrong, rewards.no_answer)
    kept = (*kept_wrong, *(() if rule is select.negative else (rewards.correct,)))
    unused = [name for name, has in (("w_pos", max(kept) > 0), ("w_neg", min(kept) < 0)) if not has]
    return f"no kept sample has a reward of its sign, so algo.advantage.{unused[0]} changes nothing" if unused else None


def best_are_the_correct(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.select) is not select.best or setup.verdicts is None:
        return None
    return "every correct sample has the highest reward: algo/select=best keeps what algo/select=positive keeps"


def equal_advantages_have_no_covariance(setup: Setup) -> str | None:
    if rule_of(setup.algorithm.tokens) is not tokens.low_covariance or not setup.kept_advantages_are_equal:
        return None
    return "all kept samples have one advantage, so algo/tokens=low_covariance leaves out no token"


RULES = (
    LinterRule(rewards_of_zero_select, Kind.EQUAL),
    LinterRule(centring_rejects_uniform_prompts, Kind.EQUAL),
    LinterRule(leaving_one_out_is_a_factor, Kind.EQUAL),
    LinterRule(two_samples_have_one_size, Kind.EQUAL),
    LinterRule(lower_bound_never_binds, Kind.INERT, quiet=True),
    LinterRule(the_lower_bound_of_ratio_min_never_binds, Kind.INERT),
    LinterRule(cpgd_reads_no_ratio, Kind.INERT, quiet=True),
    LinterRule(other_clips_are_ppo, Kind.EQUAL),
    LinterRule(a_signed_weight_has_no_rewards, Kind.INERT),
    LinterRule(best_are_the_correct, Kind.EQUAL, quiet=True),
    LinterRule(equal_advantages_have_no_covariance, Kind.INERT),
)
