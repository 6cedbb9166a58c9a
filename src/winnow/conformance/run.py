"""All checks of an algorithm: of each of its rules, and of the objective that they make together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from winnow.algorithm import ActorCritic, Algorithm, PolicyGradient, Preference, Supervised
from winnow.conformance import (
    aggregate_rules,
    gae_rules,
    matrix_rules,
    pair_objective,
    pair_rules,
    policy_objective,
    token_choices,
    token_rules,
)
from winnow.conformance.aggregate_rules import AggregateRule
from winnow.conformance.claims import name_of, settings_of
from winnow.conformance.finding import Check, Finding, Outcome, not_applicable
from winnow.conformance.gae_rules import GaeRule
from winnow.conformance.matrix_rules import MatrixRule
from winnow.conformance.pair_objective import Pairs
from winnow.conformance.pair_rules import PairSelect, ScoreRule
from winnow.conformance.policy_objective import Composed
from winnow.conformance.token_choices import TokenChoice
from winnow.conformance.token_rules import TokenRule
from winnow.ops import ratio as ratio_ops

S = TypeVar("S")
OBJECTIVE, UNCHANGED = "objective", "inputs unchanged"
REFUSED = "one of its rules changes its inputs, and training refuses it"


def findings(algorithm: Algorithm) -> Iterator[Finding]:
    """The findings of an algorithm, rule by rule, the whole objective last."""
    refused = False
    for finding in _findings(algorithm):
        refused = refused or (finding.failed and finding.check == UNCHANGED)
        is_objective = finding.subject == OBJECTIVE
        yield replace(finding, result=not_applicable(REFUSED)) if refused and is_objective else finding


def _findings(algorithm: Algorithm) -> Iterator[Finding]:
    match algorithm:
        case PolicyGradient():
            yield from of_rule("select", algorithm.select)
            yield from of_rule("advantage", algorithm.advantage)
            yield from _of_update(algorithm)
        case ActorCritic():
            yield from of_rule("select", algorithm.select)
            yield from _of(_subject("advantage", algorithm.advantage), gae_rules.GAE, GaeRule(algorithm.advantage))
            yield from _of_update(algorithm)
        case Supervised():
            yield from of_rule("aggregate", algorithm.aggregate)
            yield from of_objective(Composed(algorithm.objective, algorithm.aggregate))
        case Preference():
            yield from _of_pairs(algorithm)


def _of_pairs(algorithm: Preference) -> Iterator[Finding]:
    settings = {"beta": algorithm.beta, "smoothing": algorithm.smoothing}
    select, scores = PairSelect(algorithm.select), ScoreRule("preference", algorithm.preference, settings)
    yield from _of(_subject("select", algorithm.select), pair_rules.PAIR_SELECT, select)
    yield from _of(_subject("preference", algorithm.preference), pair_rules.SCORE, scores)
    divergence = ScoreRule("divergence", algorithm.divergence, {})
    yield from _of(_subject("divergence", algorithm.divergence), pair_rules.SCORE, divergence)
    yield from _of(OBJECTIVE, pair_objective.PAIR_OBJECTIVE, Pairs(algorithm.objective))


def _of_update(algorithm: PolicyGradient | ActorCritic) -> Iterator[Finding]:
    yield from of_rule("ratio", algorithm.ratio)
    yield from of_rule("clip", algorithm.clip)
    yield from of_rule("aggregate", algorithm.aggregate)
    if algorithm.kl is not None:
        yield from of_rule("kl", algorithm.kl.estimator)
    if algorithm.chooses_tokens:
        yield from of_rule("tokens", algorithm.tokens)
    if algorithm.uses_correction:
        yield from of_rule("correction", algorithm.correction)
    yield from of_objective(Composed(algorithm.objective, algorithm.aggregate))


def of_rule(axis: str, rule: Callable) -> Iterator[Finding]:
    """The findings of one rule alone."""
    yield from RULES[axis](_subject(axis, rule), rule)


def _subject(axis: str, rule: Callable) -> str:
    """`algo.clip: my_project.clips.soft(width=0.2)`"""
    settings = ", ".join(f"{name}={value}" for name, value in settings_of(rule).items())
    return f"algo.{axis}: {name_of(rule)}({settings})"


def of_objective(composed: Composed) -> Iterator[Finding]:
    """The findings of an objective as a whole."""
    yield from _of(OBJECTIVE, policy_objective.OBJECTIVE, composed)


def _of(subject: str, checks: Sequence[Check[S]], tested: S) -> Iterator[Finding]:
    return (check(subject, tested) for check in checks)


RULES: dict[str, Callable[[str, Callable], Iterator[Finding]]] = {
    "select": lambda subject, rule: _of(subject, matrix_rules.SELECT, MatrixRule("select", rule)),
    "advantage": lambda subject, rule: _of(subject, matrix_rules.ADVANTAGE, MatrixRule("advantage", rule)),
    "ratio": lambda subject, rule: _of(subject, token_rules.RATIO, TokenRule("ratio", rule)),
    "clip": lambda subject, rule: _of(subject, token_rules.CLIP, TokenRule("clip", rule, ratio_ops.token)),
    "kl": lambda subject, rule: _of(subject, token_rules.KL, TokenRule("kl", rule)),
    "correction": lambda subject, rule: _of(
        subject, token_rules.CORRECTION, TokenRule("correction", rule, ratio_ops.token)
    ),
    "tokens": lambda subject, rule: _of(subject, token_choices.TOKEN_CHOICE, TokenChoice(rule)),
    "aggregate": lambda subject, rule: _of(subject, aggregate_rules.AGGREGATE, AggregateRule(rule)),
}
"""The checks of a rule by its axis; a clip or correction rule is tried on the ratios of single tokens."""


def report(found: Sequence[Finding], write: Callable[[str], object]) -> bool:
    """Write the findings under their subjects, and a line that counts them; whether none has failed."""
    subject = None
    for finding in found:
        if finding.subject != subject:
            subject = finding.subject
            write(subject)
        write(str(finding))
    count = partial(_count, found)
    write(f"{count(Outcome.PASSES)} pass, {count(Outcome.FAILS)} fail, {count(Outcome.NOT_APPLICABLE)} do not apply")
    return not any(finding.failed for finding in found)


def _count(found: Sequence[Finding], outcome: Outcome) -> int:
    return sum(finding.result.outcome is outcome for finding in found)
