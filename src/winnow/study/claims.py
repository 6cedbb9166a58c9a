"""Claims about pairs of arms, and their verdicts on a study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, geometric_mean
from typing import Literal

from winnow.study import packaged_yaml
from winnow.study.arms import arm_title
from winnow.study.measures import MEASURES, Measure, format_factor
from winnow.study.statistics import (
    Difference,
    NoInterval,
    detectable_difference,
    holm,
    paired_by_prompt,
    paired_difference,
    paired_ratio,
)
from winnow.study.study import Arm, Study

Expectation = Literal["greater", "less", "close", "no greater", "different"]
Outcome = Literal["holds", "does not hold", "better", "worse", "inside noise", "not measured"]
TESTED = ("greater", "less", "different")
"""Expectations that a p-value decides. The others are decided by the position of the interval."""
HOPELESS_FACTOR = 1000
"""A smallest detectable ratio above it is not told."""
NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True, slots=True)
class Claim:
    """Statement that arm `b` has a greater (or less, or about the same, or another) `measure` than arm `a`.

    `margin` is in the measure's unit, or a factor for a ratio, and was set before any run. It decides two kinds of
    claims: `close` means a difference within the margin, and `no greater` a gain of at most the margin, so that a
    decrease confirms it. `greater`, `less` and `different` are decided by a test against no difference; where something
    is `different`, B is better or worse. `paper` has the source's figures in words, and `paper_effect` its B − A or
    B / A in the measure's unit, None if the source has no number. `titles` has those titles of the two arms that their
    runs state.
    """

    key: str
    source: str
    question: str
    statement: str
    a: str
    b: str
    measure: Measure
    expects: Expectation
    margin: float
    paper: str
    paper_effect: float | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    def title_of(self, label: str) -> str:
        return self.titles.get(label) or arm_title(label)

    @property
    def family(self) -> str:
        """Table or figure, `Figure 4` of `Figure 4, §5.1`. Its claims are corrected together for multiple testing."""
        return self.source.split(",")[0]

    @property
    def margin_text(self) -> str:
        """`2 points` or `a factor of 1.25`."""
        unit = "points" if self.measure.unit == "%" else self.measure.unit
        return f"a factor of {self.margin:g}" if self.measure.ratio else f"{self.margin:g} {unit}"


CLAIMS = tuple(Claim(**entry | {"measure": MEASURES[entry["measure"]]}) for entry in packaged_yaml("paper_claims.yaml"))


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """Outcome of a claim on a study, with a sentence that states it.

    `p_holm` is the p-value, adjusted for the tested claims of the same table or figure; None for claims not tested.
    """

    claim: Claim
    outcome: Outcome
    difference: Difference | None
    p_holm: float | None
    sentence: str


def verdicts(study: Study, claims: Sequence[Claim] = CLAIMS) -> list[ClaimVerdict]:
    """A verdict for each claim, in order, including the claims that the study does not measure."""
    differences = {claim.key: _difference(study, claim) for claim in claims}
    return [_verdict(claim, differences[claim.key], *_adjusted(claim, claims, differences), study) for claim in claims]


def compare_arms(measure: Measure, a: Arm, b: Arm) -> Difference:
    """Difference or ratio of B to A over the seeds that both have, with the interval over prompts if there is one.

    Raises:
        NoInterval: fewer than two common seeds, or no spread.
    """
    figures = measure.by_seed(a), measure.by_seed(b)
    difference = paired_ratio(*figures) if measure.ratio else paired_difference(*figures, measure.bounds)
    try:
        prompts = paired_by_prompt(measure.prompts_by_seed(a), measure.prompts_by_seed(b))
    except NoInterval:
        return difference
    return replace(difference, prompts_low=prompts.low, prompts_high=prompts.high)


def numeral(n: int) -> str:
    return NUMERALS[n] if n < len(NUMERALS) else str(n)


def _difference(study: Study, claim: Claim) -> Difference | str:
    """The difference between the claim's arms, or a sentence that says why there is none."""
    a, b = study.arm(claim.a), study.arm(claim.b)
    if a is None or b is None:
        missing = [claim.title_of(label) for label, arm in ((claim.a, a), (claim.b, b)) if arm is None]
        return f"Not measured: no finished run of {' or '.join(missing)}."
    try:
        return compare_arms(claim.measure, a, b)
    except NoInterval as reason:
        return _no_interval_sentence(claim, claim.measure.by_seed(a), claim.measure.by_seed(b), str(reason))


def _adjusted(
    claim: Claim, claims: Sequence[Claim], differences: Mapping[str, Difference | str]
) -> tuple[float | None, int]:
    """The claim's p-value adjusted by Holm, and the number of tests that it is adjusted for."""
    tested = [other for other in claims if other.family == claim.family and other.expects in TESTED]
    p = {other.key: found.p for other in tested if isinstance(found := differences[other.key], Difference)}
    return dict(zip(p, holm(list(p.values())), strict=True)).get(claim.key), len(p)


def _verdict(claim: Claim, difference: Difference | str, p: float | None, tests: int, study: Study) -> ClaimVerdict:
    if isinstance(difference, str):
        return ClaimVerdict(claim, "not measured", None, None, difference)
    outcome = _outcome_by_test(claim, difference, p) if p is not None else _outcome_by_interval(claim, difference)
    # An arm that lost runs is compared with the seeds that finished in any arm.
    seeds = len({run.seed for arm in study.arms for run in arm.runs})
    return ClaimVerdict(claim, outcome, difference, p, verdict_sentence(claim, outcome, difference, p, tests, seeds))


def _outcome_by_test(claim: Claim, difference: Difference, p: float) -> Outcome:
    if p >= 0.05:
        return "inside noise"
    above = difference.mean > (1 if claim.measure.ratio else 0)
    if claim.expects == "different":
        return "better" if above else "worse"
    return "holds" if above == (claim.expects == "greater") else "does not hold"


def _outcome_by_interval(claim: Claim, difference: Difference) -> Outcome:
    upper = claim.margin
    lower = 1 / upper if claim.measure.ratio else -upper
    both_sides = claim.expects == "close"
    if difference.high < upper and (difference.low > lower or not both_sides):
        return "holds"
    if difference.low > upper or (both_sides and difference.high < lower):
        return "does not hold"
    return "inside noise"


def verdict_sentence(
    claim: Claim, outcome: Outcome, difference: Difference, p: float | None, tests: int, seeds: int
) -> str:
    """`The final accuracy of RAFT++ is 1.9 points above that of RAFT (95 % CI 0.4 to 3.4, five seeds): holds.`

    `seeds` counts the study's seeds. If fewer of them have the figure in both arms, for instance because runs diverged,
    the sentence has `two of five seeds; the others lack this figure`.
    """
    limits = _format_limits(claim.measure, difference)
    few, others = (f" of {numeral(seeds)}", "; the others lack this figure") if difference.n < seeds else ("", "")
    effect = f"{effect_sentence(claim, difference.mean)} (95 % CI {limits}, {numeral(difference.n)}{few} seeds{others})"
    more = _noise_clause(claim, difference, p, tests) if outcome == "inside noise" else _margin_clause(claim, outcome)
    return f"{effect}: {outcome}{more}."


def effect_sentence(claim: Claim, mean: float) -> str:
    """`The final accuracy of RAFT++ is 1.9 points above that of RAFT`."""
    sentence = claim.measure.sentence.format(
        title=claim.measure.title,
        a=claim.title_of(claim.a),
        b=claim.title_of(claim.b),
        size=_format_size(claim.measure, mean),
        side="above" if mean >= 0 else "below",
    )
    return sentence[0].upper() + sentence[1:]


def _no_interval_sentence(claim: Claim, a: Mapping[int, float], b: Mapping[int, float], reason: str) -> str:
    """The difference without a verdict, and why there is no interval; or what is missing for a difference."""
    measure = claim.measure
    unmoved = [
        claim.title_of(label) for label, values in ((claim.a, a), (claim.b, b)) if values and not any(values.values())
    ]
    if measure.zero_at_start and unmoved:
        why = "because it is taken before their first update: more iterations are needed"
        return f"Not measured: the {measure.title} is still zero in runs of {' and '.join(unmoved)}, {why}."
    if measure.ratio:
        a, b = ({seed: x for seed, x in values.items() if x > 0} for values in (a, b))
    missing = [claim.title_of(label) for label, values in ((claim.a, a), (claim.b, b)) if not values]
    if missing:
        absent = "was not recorded, or is 0," if measure.ratio else "was not recorded"
        return f"Not measured: {measure.title} {absent} in runs of {' or '.join(missing)}."
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return f"Not measured: {claim.title_of(claim.a)} and {claim.title_of(claim.b)} have no seed in common."
    mean = geometric_mean(b[s] / a[s] for s in seeds) if measure.ratio else fmean(b[s] - a[s] for s in seeds)
    count = f"{numeral(len(seeds))} {'seed' if len(seeds) == 1 else 'seeds'}"
    return f"{effect_sentence(claim, mean)} ({count}); no interval and no verdict: {reason}."


def _format_size(measure: Measure, effect: float) -> str:
    """`1.9 points`, `0.14 times`."""
    if measure.ratio:
        return f"{format_factor(effect)} times"
    return f"{abs(effect):.1f} points" if measure.unit == "%" else f"{abs(effect):.3g} {measure.unit}"


def _format_limits(measure: Measure, difference: Difference) -> str:
    """The limits with the sign that the sentence implies: 3.2 points below has the limits 1.0 to 5.4."""
    low, high = difference.low, difference.high
    if measure.ratio:
        return f"{format_factor(low)} to {format_factor(high)}"
    if difference.mean < 0:
        low, high = -high, -low
    figures = [f"{x:.1f}" if measure.unit == "%" else f"{x:.3g}" for x in (low, high)]
    return " to ".join(figures).replace("-", "−")


def _noise_clause(claim: Claim, difference: Difference, p: float | None, tests: int) -> str:
    """The question left open: the margin, or for a tested claim the smallest difference that has 80 % power."""
    if p is None:
        question = "they are within" if claim.expects == "close" else "the gain exceeds"
        return f"; it remains open whether {question} {claim.margin_text}"
    correction = f" after correction for {numeral(tests)} tests" if difference.p < 0.05 else ""
    seeds = "both" if difference.n == 2 else f"all {numeral(difference.n)}"
    agree = f", although {seeds} seeds agree in sign" if difference.agree == difference.n else ""
    # Bonferroni's level, because Holm's method detects at least as much as Bonferroni's.
    least = detectable_difference(difference.n, difference.sd, alpha=0.05 / tests)
    return f"{correction}{agree}; {_power_clause(claim.measure, least)}"


def _power_clause(measure: Measure, least: float) -> str:
    """`80 % power only for a difference of 6.5 points or more`. Shares differ by at most 100 points, and a factor of a
    billion would say nothing either."""
    if (measure.unit == "%" and least > 100) or (measure.ratio and least > math.log(HOPELESS_FACTOR)):
        return "so few seeds with such a spread give no difference 80 % power"
    factor, size = f"a factor of {format_factor(math.exp(least))}", f"a difference of {_format_size(measure, least)}"
    return f"80 % power only for {factor if measure.ratio else size} or more"


def _margin_clause(claim: Claim, outcome: Outcome) -> str:
    if claim.expects == "close":
        return f", within {claim.margin_text}" if outcome == "holds" else f", more than {claim.margin_text} apart"
    if claim.expects == "no greater":
        return f", with {'no' if outcome == 'holds' else 'a'} gain above {claim.margin_text}"
    return ""
