"""Verdicts in plain words."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, geometric_mean

from winnow.study.arms import title
from winnow.study.claim import Claim
from winnow.study.measures import Measure
from winnow.study.statistics import Difference, detectable

NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def number(n: int) -> str:
    return NUMERALS[n] if n < len(NUMERALS) else str(n)


def verdict(claim: Claim, outcome: str, difference: Difference, p: float | None, tests: int, seeds: int) -> str:
    """`RAFT++ ends 1.9 points above RAFT (95 % 0.4 to 3.4, five seeds): holds.` Where fewer of the study's `seeds` have the
    figure in both arms, as after runs that diverged: `two of five seeds, the others without this figure`."""
    limits = _limits(claim.measure, difference)
    few = f" of {number(seeds)}" if difference.n < seeds else ""
    others = ", the others without this figure" if few else ""
    told = f"{effect(claim, difference.mean)} (95 % {limits}, {number(difference.n)}{few} seeds{others})"
    more = _noise(claim, difference, p, tests) if outcome == "inside noise" else _margin(claim, outcome)
    return f"{told}: {outcome}{more}."


def effect(claim: Claim, mean: float) -> str:
    """`RAFT++ ends 1.9 points above RAFT`."""
    said = claim.measure.says.format(
        title=claim.measure.title,
        a=title(claim.a),
        b=title(claim.b),
        size=size(claim.measure, mean),
        side="above" if mean >= 0 else "below",
    )
    return said[0].upper() + said[1:]


def size(measure: Measure, mean: float) -> str:
    """`1.9 points`, `0.14 times`."""
    if measure.ratio:
        return f"{figure(mean)} times"
    return f"{abs(mean):.1f} points" if measure.unit == "%" else f"{abs(mean):.3g} {measure.unit}"


def figure(factor: float) -> str:
    """Two digits, and all of those before the point: 0.20, 1.4, 115."""
    return f"{factor:.0f}" if factor >= 9.95 else f"{factor:#.2g}"


def no_run_of(labels: Sequence[str]) -> str:
    return f"Not measured: no finished run of {' or '.join(map(title, labels))}."


def refused(claim: Claim, a: Mapping[int, float], b: Mapping[int, float], why: str) -> str:
    """Where there is no interval: the difference all the same, if there is one, and why it comes without a verdict."""
    measure = claim.measure
    if measure.ratio:
        a, b = ({seed: x for seed, x in values.items() if x > 0} for values in (a, b))
    missing = [title(label) for label, values in ((claim.a, a), (claim.b, b)) if not values]
    if missing:
        absent = "was not recorded, or is 0," if measure.ratio else "was not recorded"
        return f"Not measured: {measure.title} {absent} in runs of {' or '.join(missing)}."
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return f"Not measured: {title(claim.a)} and {title(claim.b)} have no seed in common."
    mean = geometric_mean(b[s] / a[s] for s in seeds) if measure.ratio else fmean(b[s] - a[s] for s in seeds)
    runs = "seed" if len(seeds) == 1 else "seeds"
    return f"{effect(claim, mean)} ({number(len(seeds))} {runs}); no interval and no verdict: {why}."


def _limits(measure: Measure, difference: Difference) -> str:
    """From the side that the sentence speaks of: 3.2 points below, 1.0 to 5.4."""
    low, high = difference.low, difference.high
    if measure.ratio:
        return f"{figure(low)} to {figure(high)}"
    if difference.mean < 0:
        low, high = -high, -low
    figures = [f"{x:.1f}" if measure.unit == "%" else f"{x:.3g}" for x in (low, high)]
    return " to ".join(figures).replace("-", "−")


def _noise(claim: Claim, difference: Difference, p: float | None, tests: int) -> str:
    if p is None:
        asked = "they are within" if claim.expects == "close" else "it gains"
        return f"; whether {asked} {_apart(claim)} is not settled"
    side = f", with all {number(difference.n)} seeds on that side" if difference.agree == difference.n else ""
    among = f", with {number(tests)} claims tested together" if difference.p < 0.05 else ""
    least = detectable(difference.n, difference.sd, alpha=0.05 / tests)  # Holm finds at least what Bonferroni finds
    what = (
        f"a factor of {figure(math.exp(least))}"
        if claim.measure.ratio
        else f"a difference of {size(claim.measure, least)}"
    )
    return f"{side}{among}; {what} would have been found four times in five"


def _margin(claim: Claim, outcome: str) -> str:
    if claim.expects == "close":
        return f", {'within' if outcome == 'holds' else 'further apart than'} {_apart(claim)}"
    if claim.expects == "no greater":
        return f", {'no' if outcome == 'holds' else 'a'} gain of {_apart(claim)}"
    return ""


def _apart(claim: Claim) -> str:
    unit = "points" if claim.measure.unit == "%" else claim.measure.unit
    return f"a factor of {claim.margin:g}" if claim.measure.ratio else f"{claim.margin:g} {unit}"
