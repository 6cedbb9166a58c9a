"""A study held against claims: a verdict and a sentence for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from winnow.study import sentences
from winnow.study.claim import Claim
from winnow.study.measures import Measure
from winnow.study.paper_claims import CLAIMS
from winnow.study.statistics import Difference, Refused, holm, paired, paired_by_prompt, ratio
from winnow.study.study import Arm, Study

__all__ = ["CLAIMS", "Claim", "Outcome", "Verdict", "compare", "verdicts"]

Outcome = Literal["holds", "does not hold", "inside noise", "not measured"]
TESTED = ("greater", "less")
"""Claims that a p-value decides; the others are decided by where their interval lies."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`p_holm` is adjusted for the tested claims of the same table or figure, None of claims that are not tested."""

    claim: Claim
    outcome: Outcome
    difference: Difference | None
    p_holm: float | None
    sentence: str


def verdicts(study: Study, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """One for each claim, in order, also for those that the study does not measure."""
    found: dict[str, Difference | str] = {claim.key: _difference(study, claim) for claim in claims}
    return [_verdict(claim, found[claim.key], *_adjusted(claim, claims, found), study) for claim in claims]


def compare(measure: Measure, a: Arm, b: Arm) -> Difference:
    """B against A by the seeds that both have, as the measure is compared; with the interval over prompts where there is one.

    Raises:
        Refused: fewer than two common seeds, or no spread.
    """
    between = ratio if measure.ratio else paired
    difference = between(measure.by_seed(a), measure.by_seed(b))
    try:
        prompts = paired_by_prompt(measure.prompts_by_seed(a), measure.prompts_by_seed(b))
    except Refused:
        return difference
    return replace(difference, prompts_low=prompts.low, prompts_high=prompts.high)


def _difference(study: Study, claim: Claim) -> Difference | str:
    """Or why there is none."""
    a, b = study.arm(claim.a), study.arm(claim.b)
    missing = [label for label, arm in ((claim.a, a), (claim.b, b)) if arm is None]
    if a is None or b is None:
        return sentences.no_run_of(missing)
    try:
        return compare(claim.measure, a, b)
    except Refused as refused:
        return sentences.refused(claim, claim.measure.by_seed(a), claim.measure.by_seed(b), str(refused))


def _adjusted(claim: Claim, claims: Sequence[Claim], found: dict[str, Difference | str]) -> tuple[float | None, int]:
    """The claim's p-value by Holm, and for how many tests."""
    tested = [one for one in claims if one.family == claim.family and one.expects in TESTED]
    p = {one.key: it.p for one in tested if isinstance(it := found[one.key], Difference)}
    adjusted = dict(zip(p, holm(list(p.values())), strict=True))
    return adjusted.get(claim.key), len(p)


def _verdict(claim: Claim, found: Difference | str, p: float | None, tests: int, study: Study) -> Verdict:
    if isinstance(found, str):
        return Verdict(claim, "not measured", None, None, found)
    outcome = _tested(claim, found, p) if p is not None else _by_interval(claim, found)
    return Verdict(claim, outcome, found, p, sentences.verdict(claim, outcome, found, p, tests, _seeds(study)))


def _seeds(study: Study) -> int:
    """How many finished in some arm: what an arm that lost runs is held against."""
    return len({run.seed for arm in study.arms for run in arm.runs})


def _tested(claim: Claim, difference: Difference, p: float) -> Outcome:
    if p >= 0.05:
        return "inside noise"
    above = difference.mean > (1 if claim.measure.ratio else 0)
    return "holds" if above == (claim.expects == "greater") else "does not hold"


def _by_interval(claim: Claim, difference: Difference) -> Outcome:
    upper = claim.margin
    lower = 1 / upper if claim.measure.ratio else -upper
    both_sides = claim.expects == "close"
    if difference.high < upper and (difference.low > lower or not both_sides):
        return "holds"
    if difference.low > upper or (both_sides and difference.high < lower):
        return "does not hold"
    return "inside noise"
