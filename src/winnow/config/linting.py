"""Claims about settings, as linter rules make them: the setup that they are about, their kinds, and their findings.

A rule is a function of a `Setup` that returns its claim, or None where it claims nothing. Every rule has a test that
proves the claim: equality to 1e-12, the stated factor, or an expectation by enumeration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Generic, TypeVar

from omegaconf import DictConfig

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.config.instantiate import precision_of, samples_exactly
from winnow.config.reward_functions import has_functions, penalises_length
from winnow.explain.registry import settings_of
from winnow.objectives import KL
from winnow.ops import advantage, clip, kl, select
from winnow.rule import is_ours, reads, rule_of

KNOWN_CLIPS = (clip.unclipped, clip.ppo, clip.dual, clip.ratio_min, clip.cispo, clip.sapo)
"""Rules whose gradient is that of ratio · advantage at ratio 1, but for `dual` with a floor of 1."""
OF_LOG_PROBABILITY = (clip.topr, clip.vespo, clip.cpgd, clip.dppo)
"""Rules whose gradient is that of advantage · log π, at ratio 1 without any other weight."""


RULES_OF_PLUGINS = ("select", "advantage", "ratio", "clip", "aggregate", "correction", "tokens")
"""Axes on which a plug-in may put a function of its own."""
ROUNDING = 1e-4
"""A bound of clipping that is nearer to 1 may cut ratios that are 1 but for rounding."""
STEEP = 100.0
"""A factor on log-ratios, or an exponent of ratios, above which rounding may decide on a gradient."""
EXPONENTS = ("positive", "negative", "k_pos", "k_neg", "lambda_pos", "lambda_neg")
"""The settings of clipping rules that are such factors: the rates of SAPO's gate, and VESPO's k and λ."""


class Kind(StrEnum):
    """The sort of claim: a setting without effect, another configuration that is the same but for a factor, a gradient
    that is not the one its name promises, a quantity that nothing bounds, or bounds made for another quantity."""

    INERT = "inert"
    EQUAL = "equal"
    BIASED = "biased"
    UNSTABLE = "unstable"
    BOUNDS = "bounds"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The rewards of verdicts."""

    correct: float
    wrong: float
    no_answer: float

    @property
    def are_two(self) -> bool:
        """Whether a reward says no more than whether the sample is correct."""
        return self.wrong == self.no_answer != self.correct


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings that claims are about.

    `updates` is the number of optimiser steps of an iteration, `lowest_reward` the reward of the worst verdict (−∞ with
    reward functions, of which nothing is known). `rounds_coarsely` says that two forwards of the same weights differ by
    more than rounding in float32. Samples are of the policy `staleness` iterations ago, `samples` of each prompt.
    `verdicts` are None where rewards are not those of verdicts alone. With `keeps_all_drawn` the collector draws as
    many samples of each prompt, and leaves none out. With `samples_exactly` the sampler's log-probabilities are the
    old ones.
    """

    algorithm: PolicyGradient | ActorCritic
    updates: int
    lowest_reward: float
    rounds_coarsely: bool
    staleness: int = 0
    samples: int = 8
    verdicts: Verdicts | None = None
    keeps_all_drawn: bool = True
    samples_exactly: bool = True

    @property
    def ratio_is_one(self) -> bool:
        """Whether the importance ratio of every token is 1 in every update.

        It is where the update's own forward gives the old log-probabilities, which those of an exact sampler equal.
        With a critic or a correction they come from a forward of their own.
        """
        own = isinstance(self.algorithm, PolicyGradient) and not self.algorithm.uses_correction
        return self.algorithm.objective.uses_ratio and self.updates == 1 and (own or not self.rounds_coarsely)

    @property
    def clip_acts_at_one(self) -> bool:
        """Whether the clipping rule changes a gradient at a ratio that is 1 but for rounding; so does `dual` with a
        floor of 1 · A."""
        rule = rule_of(self.algorithm.clip)
        floor = settings_of(self.algorithm.clip).get("c")
        floored = rule is clip.dual and not (isinstance(floor, int | float) and floor >= 1 + ROUNDING)
        return rule not in KNOWN_CLIPS or floored or not self.bounds_are_far

    @property
    def clip_is_log_likelihood_at_one(self) -> bool:
        """Whether the gradient at ratio 1 is that of advantage · log π, whatever the rule of the ratio."""
        cap = settings_of(self.algorithm.clip).get("cap", 1)
        known = rule_of(self.algorithm.clip) in OF_LOG_PROBABILITY and self.bounds_are_far
        of_policy = self.samples_exactly or not reads(self.algorithm.clip, "sampled")
        return known and of_policy and isinstance(cap, int | float) and cap >= 1

    @property
    def bounds_are_far(self) -> bool:
        """Whether clipping changes nothing of a ratio that is 1 but for rounding: by a bound near 1, or steeply."""
        settings = settings_of(self.algorithm.clip)
        bounds = [settings[name] for name in ("low", "high", "delta") if name in settings]
        rates = [settings[name] for name in EXPONENTS if name in settings]
        far = all(bound is None or (isinstance(bound, int | float) and bound >= ROUNDING) for bound in bounds)
        return far and all(isinstance(rate, int | float) and abs(rate) <= STEEP for rate in rates)

    @property
    def all_rules_are_known(self) -> bool:
        """Whether no part of the objective is a plug-in's, whose effects nobody knows here."""
        algorithm = self.algorithm
        rules = [rule_of(getattr(algorithm, axis)) for axis in RULES_OF_PLUGINS if hasattr(algorithm, axis)]
        rules += [] if algorithm.kl is None else [rule_of(algorithm.kl.estimator)]
        return all(map(is_ours, rules)) and type(algorithm) in (PolicyGradient, ActorCritic)

    @property
    def one_advantage_per_response(self) -> bool:
        per_token = self.algorithm.uses_correction or self.algorithm.chooses_tokens
        return isinstance(self.algorithm, PolicyGradient) and not per_token

    @property
    def k1_in_loss(self) -> KL | None:
        """A term of k1 as it is: times the ratio, its gradient at the policy that sampled is that of k2."""
        term = self.algorithm.objective.kl_in_loss
        if term is None or term.weight != "none" or rule_of(term.estimator) is not kl.k1:
            return None
        return term

    @property
    def every_row_is_in_the_loss(self) -> bool:
        """Whether every sample is under the KL term; what a collector passes over is not, by any setting."""
        return self.rejects_nothing or (self.keeps_all_drawn and self.algorithm.rejected == "zero")

    @property
    def rejects_nothing(self) -> bool:
        """Whether every sample is kept, whatever its reward, its verdict and its length."""
        keeps_all = self.keeps_all_drawn and self.algorithm.truncated == "keep"
        return keeps_all and rule_of(self.algorithm.select) is select.all_samples

    @property
    def is_shaped(self) -> bool:
        """Whether a KL term is subtracted from rewards."""
        return self.algorithm.objective.kl_in_reward is not None

    @property
    def no_advantage_is_negative(self) -> bool:
        """Whether it is known that none is, from the rule of advantage and the rewards."""
        rule = rule_of(self.algorithm.advantage)
        return not self.is_shaped and (rule is advantage.one or (rule is advantage.reward and self.lowest_reward >= 0))

    @property
    def kept_advantages_are_equal(self) -> bool:
        """Whether all rows of a batch are known to have one advantage, from the rules and the rewards of verdicts."""
        rule, verdicts = rule_of(self.algorithm.advantage), self.verdicts
        if self.is_shaped or self.algorithm.uses_correction:
            return False
        if self.algorithm.rejected == "zero" and not self.rejects_nothing:
            return False
        if rule is advantage.one:
            return True
        if verdicts is None or rule not in (advantage.reward, advantage.signed):
            return False
        chosen = rule_of(self.algorithm.select)
        return chosen in (select.positive, select.best) or (
            chosen is select.negative and verdicts.wrong == verdicts.no_answer
        )

    def advantage_setting(self, name: str) -> object:
        """A setting of the rule of advantage, with the default where it is not given."""
        return settings_of(self.algorithm.advantage).get(name)


def setup_of(cfg: DictConfig, algorithm: PolicyGradient | ActorCritic) -> Setup:
    """The setup of a composed configuration with its algorithm."""
    reward, shaped = cfg.reward, has_functions(cfg) or penalises_length(cfg)
    verdicts = None if shaped else Verdicts(reward.correct, reward.wrong, reward.no_answer)
    return Setup(
        algorithm,
        updates=cfg["update"].minibatches * cfg["update"].epochs,
        lowest_reward=-inf if verdicts is None else min(verdicts.correct, verdicts.wrong, verdicts.no_answer),
        rounds_coarsely=precision_of(cfg) == "bf16-mixed",
        staleness=cfg.rollout.staleness,
        samples=cfg.rollout.samples,
        verdicts=verdicts,
        keeps_all_drawn=str(cfg.collector["_target_"]).endswith(".Fixed"),
        samples_exactly=samples_exactly(cfg),
    )


Rule = Callable[[Setup], str | None]
About = TypeVar("About")
"""The settings that a rule's claim is about: a `Setup`, or a `PairSetup` for preference pairs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim about the settings of a run. A `quiet` one holds of the paper's own algorithms as they are."""

    kind: Kind
    text: str
    quiet: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class LinterRule(Generic[About]):
    """A rule with the kind of its claim."""

    rule: Callable[[About], str | None]
    kind: Kind
    quiet: bool = False

    def finding(self, setup: About) -> Finding | None:
        text = self.rule(setup)
        return None if text is None else Finding(self.kind, text, self.quiet)
