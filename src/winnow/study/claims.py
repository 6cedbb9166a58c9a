"""A statement that a study can be held against."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from statistics import fmean, geometric_mean
from typing import Literal

import yaml

from winnow.study.arms import arm_title
from winnow.study.measures import MEASURES, Measure
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

Expectation = Literal["greater", "less", "close", "no greater"]


@dataclass(frozen=True, slots=True)
class Claim:
    """That arm `b` has a greater (or less, or about the same) `measure` than arm `a`.

    `margin`, in the measure's unit, of a ratio as a factor, is set before any run and decides two kinds of claims: `close` means
    within it, `no greater` at most by it: of a step that is said not to help, a fall confirms the claim. `greater` and `less` are
    decided by a test against no difference. `paper` has the source's figures in words, `paper_effect` B − A or B / A in the
    measure's unit, None where none can be read off.
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

    @property
    def family(self) -> str:
        """What it is corrected for multiplicity with: the claims of one table or figure (`Figure 4` of `Figure 4, §5.1`)."""
        return self.source.split(",")[0]


def paper_claims() -> tuple[Claim, ...]:
    """The claims in `paper_claims.yaml`, in its order."""
    entries = yaml.safe_load(files("winnow.study").joinpath("paper_claims.yaml").read_text(encoding="utf-8"))
    return tuple(Claim(**entry | {"measure": MEASURES[entry["measure"]]}) for entry in entries)


CLAIMS = paper_claims()

NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def numeral(n: int) -> str:
    return NUMERALS[n] if n < len(NUMERALS) else str(n)


def verdict_sentence(
    claim: Claim, outcome: str, difference: Difference, p: float | None, tests: int, seeds: int
) -> str:
    """`RAFT++ ends 1.9 points above RAFT (95 % 0.4 to 3.4, five seeds): holds.` Where fewer of the study's `seeds` have the
    figure in both arms, as after runs that diverged: `two of five seeds, the others without this figure`."""
    limits = _limits_words(claim.measure, difference)
    few = f" of {numeral(seeds)}" if difference.n < seeds else ""
    others = ", the others without this figure" if few else ""
    told = f"{effect_sentence(claim, difference.mean)} (95 % {limits}, {numeral(difference.n)}{few} seeds{others})"
    more = _noise_words(claim, difference, p, tests) if outcome == "inside noise" else _margin_words(claim, outcome)
    return f"{told}: {outcome}{more}."


def effect_sentence(claim: Claim, mean: float) -> str:
    """`RAFT++ ends 1.9 points above RAFT`."""
    said = claim.measure.says.format(
        title=claim.measure.title,
        a=arm_title(claim.a),
        b=arm_title(claim.b),
        size=size_in_words(claim.measure, mean),
        side="above" if mean >= 0 else "below",
    )
    return said[0].upper() + said[1:]


def size_in_words(measure: Measure, mean: float) -> str:
    """`1.9 points`, `0.14 times`."""
    if measure.ratio:
        return f"{two_digits(mean)} times"
    return f"{abs(mean):.1f} points" if measure.unit == "%" else f"{abs(mean):.3g} {measure.unit}"


def two_digits(factor: float) -> str:
    """Two digits, and all of those before the point: 0.20, 1.4, 115."""
    return f"{factor:.0f}" if factor >= 9.95 else f"{factor:#.2g}"


def no_run_sentence(labels: Sequence[str]) -> str:
    return f"Not measured: no finished run of {' or '.join(map(arm_title, labels))}."


def refused_sentence(claim: Claim, a: Mapping[int, float], b: Mapping[int, float], why: str) -> str:
    """Where there is no interval: the difference all the same, if there is one, and why it comes without a verdict."""
    measure = claim.measure
    if measure.ratio:
        a, b = ({seed: x for seed, x in values.items() if x > 0} for values in (a, b))
    missing = [arm_title(label) for label, values in ((claim.a, a), (claim.b, b)) if not values]
    if missing:
        absent = "was not recorded, or is 0," if measure.ratio else "was not recorded"
        return f"Not measured: {measure.title} {absent} in runs of {' or '.join(missing)}."
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return f"Not measured: {arm_title(claim.a)} and {arm_title(claim.b)} have no seed in common."
    mean = geometric_mean(b[s] / a[s] for s in seeds) if measure.ratio else fmean(b[s] - a[s] for s in seeds)
    runs = "seed" if len(seeds) == 1 else "seeds"
    return f"{effect_sentence(claim, mean)} ({numeral(len(seeds))} {runs}); no interval and no verdict: {why}."


def _limits_words(measure: Measure, difference: Difference) -> str:
    """From the side that the sentence speaks of: 3.2 points below, 1.0 to 5.4."""
    low, high = difference.low, difference.high
    if measure.ratio:
        return f"{two_digits(low)} to {two_digits(high)}"
    if difference.mean < 0:
        low, high = -high, -low
    figures = [f"{x:.1f}" if measure.unit == "%" else f"{x:.3g}" for x in (low, high)]
    return " to ".join(figures).replace("-", "−")


def _noise_words(claim: Claim, difference: Difference, p: float | None, tests: int) -> str:
    if p is None:
        asked = "they are within" if claim.expects == "close" else "it gains"
        return f"; whether {asked} {_apart(claim)} is not settled"
    side = f", with all {numeral(difference.n)} seeds on that side" if difference.agree == difference.n else ""
    among = f", with {numeral(tests)} claims tested together" if difference.p < 0.05 else ""
    least = detectable_difference(
        difference.n, difference.sd, alpha=0.05 / tests
    )  # Holm finds at least what Bonferroni finds
    what = (
        f"a factor of {two_digits(math.exp(least))}"
        if claim.measure.ratio
        else f"a difference of {size_in_words(claim.measure, least)}"
    )
    return f"{side}{among}; {what} would have been found four times in five"


def _margin_words(claim: Claim, outcome: str) -> str:
    if claim.expects == "close":
        return f", {'within' if outcome == 'holds' else 'further apart than'} {_apart(claim)}"
    if claim.expects == "no greater":
        return f", {'no' if outcome == 'holds' else 'a'} gain of {_apart(claim)}"
    return ""


def _apart(claim: Claim) -> str:
    unit = "points" if claim.measure.unit == "%" else claim.measure.unit
    return f"a factor of {claim.margin:g}" if claim.measure.ratio else f"{claim.margin:g} {unit}"


Outcome = Literal["holds", "does not hold", "inside noise", "not measured"]
TESTED = ("greater", "less")
"""Claims that a p-value decides; the others are decided by where their interval lies."""


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """`p_holm` is adjusted for the tested claims of the same table or figure, None of claims that are not tested."""

    claim: Claim
    outcome: Outcome
    difference: Difference | None
    p_holm: float | None
    sentence: str


def verdicts(study: Study, claims: Sequence[Claim] = CLAIMS) -> list[ClaimVerdict]:
    """One for each claim, in order, also for those that the study does not measure."""
    found: dict[str, Difference | str] = {claim.key: _difference(study, claim) for claim in claims}
    return [_verdict(claim, found[claim.key], *_adjusted(claim, claims, found), study) for claim in claims]


def compare_arms(measure: Measure, a: Arm, b: Arm) -> Difference:
    """B against A by the seeds that both have, as the measure is compared; with the interval over prompts where there is one.

    Raises:
        Refused: fewer than two common seeds, or no spread.
    """
    between = paired_ratio if measure.ratio else paired_difference
    difference = between(measure.by_seed(a), measure.by_seed(b))
    try:
        prompts = paired_by_prompt(measure.prompts_by_seed(a), measure.prompts_by_seed(b))
    except NoInterval:
        return difference
    return replace(difference, prompts_low=prompts.low, prompts_high=prompts.high)


def _difference(study: Study, claim: Claim) -> Difference | str:
    """Or why there is none."""
    a, b = study.arm(claim.a), study.arm(claim.b)
    missing = [label for label, arm in ((claim.a, a), (claim.b, b)) if arm is None]
    if a is None or b is None:
        return no_run_sentence(missing)
    try:
        return compare_arms(claim.measure, a, b)
    except NoInterval as refused:
        return refused_sentence(claim, claim.measure.by_seed(a), claim.measure.by_seed(b), str(refused))


def _adjusted(claim: Claim, claims: Sequence[Claim], found: dict[str, Difference | str]) -> tuple[float | None, int]:
    """The claim's p-value by Holm, and for how many tests."""
    tested = [one for one in claims if one.family == claim.family and one.expects in TESTED]
    p = {one.key: it.p for one in tested if isinstance(it := found[one.key], Difference)}
    adjusted = dict(zip(p, holm(list(p.values())), strict=True))
    return adjusted.get(claim.key), len(p)


def _verdict(claim: Claim, found: Difference | str, p: float | None, tests: int, study: Study) -> ClaimVerdict:
    if isinstance(found, str):
        return ClaimVerdict(claim, "not measured", None, None, found)
    outcome = _tested(claim, found, p) if p is not None else _by_interval(claim, found)
    return ClaimVerdict(claim, outcome, found, p, verdict_sentence(claim, outcome, found, p, tests, _seeds(study)))


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
