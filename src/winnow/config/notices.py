"""Notices of a training run at start-up: settings that are legal and change nothing, or not what they seem to change.

A notice is a claim about gradients, and `tests/config/test_notices.py` and `test_linter.py` prove each one by computing
them. A rule of a plug-in is not known here, so that nothing is claimed to be equal beside it.
"""

from collections.abc import Sequence

from omegaconf import DictConfig

from winnow.algorithm import Algorithm, Preference, Supervised
from winnow.config import biased_settings, clip_bounds, equal_settings, pair_settings
from winnow.config.linting import About, Finding, Kind, LinterRule, Rule, Setup, setup_of
from winnow.config.pair_settings import pair_setup_of
from winnow.ops import advantage, aggregate, kl, ratio
from winnow.rule import rule_of

PENALISES = "type algo/kl=k2, or algo.kl.place=reward, for a penalty"
Notice = Rule


def ratio_and_clip_change_nothing(setup: Setup) -> str | None:
    plain = (ratio.token, ratio.sequence) if setup.one_advantage_per_response else (ratio.token,)
    known = not setup.clip_acts_at_one and rule_of(setup.algorithm.ratio) in plain
    if not setup.ratio_is_one or not (known or setup.clip_is_log_likelihood_at_one):
        return None
    return "one update per iteration: the ratio is always 1, so algo/ratio and algo/clip change nothing"


def ratio_weighs_by_length(setup: Setup) -> str | None:
    if not setup.ratio_is_one or setup.clip_acts_at_one or rule_of(setup.algorithm.ratio) is not ratio.sequence_product:
        return None
    return (
        "one update per iteration: the ratio is always 1, so algo/clip changes nothing; algo/ratio=sequence_product "
        "gives each token the sum of its response's advantages, which for equal ones is length × advantage"
    )


def ratio_averages_advantages(setup: Setup) -> str | None:
    averages = rule_of(setup.algorithm.ratio) is ratio.sequence and not setup.one_advantage_per_response
    if not setup.ratio_is_one or setup.clip_acts_at_one or not averages:
        return None
    return (
        "one update per iteration: the ratio is always 1, so algo/clip changes nothing; algo/ratio=sequence gives "
        "each token the mean of its response's advantages"
    )


def k1_has_no_mean_gradient(setup: Setup) -> str | None:
    rule = rule_of(setup.algorithm.aggregate)
    if not _k1_on_every_row(setup) or rule not in (aggregate.sequence_sum, aggregate.constant_length):
        return None
    return (
        "algo/kl=k1 in the loss has an expected gradient of zero at the policy that sampled, whatever the reference; "
        + PENALISES
    )


def k1_favours_length(setup: Setup) -> str | None:
    rule = rule_of(setup.algorithm.aggregate)
    if not _k1_on_every_row(setup) or rule not in (aggregate.sequence_mean, aggregate.token_mean):
        return None
    of = "1/length" if rule is aggregate.sequence_mean else "1/(tokens of the batch)"
    return (
        f"algo/kl=k1 in the loss has the gradient of the mean of {of} at the policy that sampled, whatever the "
        f"reference: it pushes towards longer answers; {PENALISES}"
    )


def k1_lowers_what_is_kept(setup: Setup) -> str | None:
    term = setup.k1_in_loss
    if term is None or term.clamp is not None or setup.every_row_is_in_the_loss:
        return None
    return (
        "algo/kl=k1 in the loss lowers the log-probability of the samples that are kept, whatever the reference; "
        + PENALISES
    )


def k1_acts_within_its_clamp(setup: Setup) -> str | None:
    term = setup.k1_in_loss
    if term is None or term.clamp is None:
        return None
    return (
        "algo/kl=k1 in the loss lowers the log-probability of every token whose |log π − log π_ref| is below "
        f"algo.kl.clamp, on whichever side; {PENALISES}"
    )


def _k1_on_every_row(setup: Setup) -> bool:
    term = setup.k1_in_loss
    return term is not None and term.clamp is None and setup.every_row_is_in_the_loss


def kl_to_the_previous_policy_changes_nothing(setup: Setup) -> str | None:
    term = setup.algorithm.objective.kl_in_loss
    if term is None or not term.is_of_previous or setup.updates != 1 or setup.rounds_coarsely:
        return None
    if rule_of(term.estimator) not in (kl.k2, kl.k3, kl.drift):
        return None
    return "one update per iteration: the previous policy is the current one, so algo.kl changes nothing"


def kl_in_the_reward_has_another_gradient(setup: Setup) -> str | None:
    term = setup.algorithm.objective.kl_in_reward
    if term is None or term.clamp is not None or rule_of(term.estimator) not in (kl.k2, kl.k3):
        return None
    what = {
        kl.k2: "is not on average the KL's gradient, and vanishes faster near the reference",
        kl.k3: "is on average, at each token, the gradient of KL(π‖π_ref) less that of KL(π_ref‖π)",
    }[rule_of(term.estimator)]
    name = rule_of(term.estimator).__name__
    return f"algo/kl={name} in the reward {what}; type algo/kl=k1 for the gradient of KL(π‖π_ref)"


def rejected_changes_nothing(setup: Setup) -> str | None:
    if setup.algorithm.rejected != "zero" or not setup.rejects_nothing:
        return None
    return "algo/select=all rejects nothing, so algo.rejected changes nothing"


def no_advantage_is_negative(setup: Setup) -> str | None:
    shaped = setup.algorithm.objective.kl_in_reward is not None
    if rule_of(setup.algorithm.advantage) is not advantage.reward or setup.lowest_reward < 0 or shaped:
        return None
    return "no reward is negative, so no sample has a negative advantage (reward=plus_minus_one has some)"


def earlier_samples_are_not_corrected(setup: Setup) -> str | None:
    """Ratios begin at the present policy: only a correction weighs samples that an earlier one has drawn, and only a
    rule of clipping that reads the sampler leaves some of them out."""
    if not setup.staleness or setup.algorithm.uses_correction or setup.algorithm.objective.uses_sampled:
        return None
    ago = "the last iteration" if setup.staleness == 1 else f"{setup.staleness} iterations ago"
    return (
        f"samples are of the policy of {ago} and count as if the present one had drawn them; type "
        "algo/correction=truncated to weigh them"
    )


NOTICES: tuple[LinterRule[Setup], ...] = (
    LinterRule(earlier_samples_are_not_corrected, Kind.BIASED),
    LinterRule(ratio_and_clip_change_nothing, Kind.INERT),
    LinterRule(ratio_weighs_by_length, Kind.INERT),
    LinterRule(ratio_averages_advantages, Kind.INERT),
    LinterRule(k1_has_no_mean_gradient, Kind.INERT),
    LinterRule(k1_favours_length, Kind.BIASED),
    LinterRule(k1_lowers_what_is_kept, Kind.BIASED),
    LinterRule(k1_acts_within_its_clamp, Kind.BIASED),
    LinterRule(kl_to_the_previous_policy_changes_nothing, Kind.INERT),
    LinterRule(kl_in_the_reward_has_another_gradient, Kind.BIASED),
    LinterRule(rejected_changes_nothing, Kind.INERT),
    LinterRule(no_advantage_is_negative, Kind.EQUAL),
    *equal_settings.RULES,
    *biased_settings.RULES,
    *clip_bounds.RULES,
)


def findings_of(cfg: DictConfig, algorithm: Algorithm) -> list[Finding]:
    """All claims about a composed configuration and its algorithm."""
    if isinstance(algorithm, Supervised):
        return []
    if isinstance(algorithm, Preference):
        pairs = pair_setup_of(cfg, algorithm)
        return _found(pair_settings.RULES, pairs, pairs.all_rules_are_known)
    setup = setup_of(cfg, algorithm)
    return _found(NOTICES, setup, setup.all_rules_are_known)


def _found(rules: Sequence[LinterRule[About]], setup: About, all_are_known: bool) -> list[Finding]:
    """The findings of rules; beside a function of a plug-in, nothing is said to be equal or without effect."""
    told = [rule for rule in rules if all_are_known or rule.kind not in (Kind.INERT, Kind.EQUAL)]
    return [found for rule in told if (found := rule.finding(setup)) is not None]


def notices_of(cfg: DictConfig, algorithm: Algorithm, resumed: bool = False) -> list[str]:
    """The claims that a run tells of at its start. A resumed run has told of its biases before."""
    told = [finding for finding in findings_of(cfg, algorithm) if not finding.quiet]
    return [finding.text for finding in told if not (resumed and finding.kind is Kind.BIASED)]
