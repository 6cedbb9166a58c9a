"""Means over seeds and paired differences, with 95 % confidence intervals. A run is one observation, however many rows
it has.

The interval of an arm's mean stays within what its figures can be: it is Wilson's score interval with Student's t in
place of the normal quantile for shares, its limit far below 1 for other figures that cannot be negative, and Student's
t interval for figures without bounds. Differences have Student's t interval. The percentile bootstrap would be too
narrow: it resamples a handful of runs and leaves out both the small-sample quantile and the factor n / (n − 1) of the
variance. Measured coverage of nominal 95 % intervals, in per cent (`python -m benchmarks.seed_interval_coverage`, 4000
repetitions):

    seeds                                                      2      3      5     10
    an arm, normal figures                                    95     95     95     95
    an arm, Beta(2, 2) or Beta(18, 2)                         95     95  94–95  94–95
    an arm, exponential, log-normal or near 1                 95     94  92–94     93
    Student's t of an arm, exponential, log-normal, near 1  91–94  88–92  88–92  90–92
    paired t, B − A: all but the next line                 94–96  94–97  94–97  94–96
    paired t, A around 0.90, B near 1                         93     93     92     94
    paired percentile bootstrap                            49–51  72–75  81–84  88–90

With 10 arms that equal their common baseline, at least one claim is false in 4.5 to 5.1 % of families with Holm's
correction, and in 31 to 37 % without it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

from winnow.evaluation.intervals import Interval, positive_limits, t_quantile, wilson_limits

PerPrompt = Mapping[tuple[str, str], NDArray[np.float64]]
"""Percentage correct of each prompt in one run, by evaluation set and hash of the set's prompts."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and greatest value that a figure can have, in its own unit."""

    low: float = -math.inf
    high: float = math.inf

    def include(self, values: Sequence[float]) -> bool:
        return all(self.low <= value <= self.high for value in values)


UNBOUNDED, POSITIVE, SHARE, PERCENT = Bounds(), Bounds(0), Bounds(0, 1), Bounds(0, 100)


class NoInterval(ValueError):
    """No interval can be computed: there are too few runs, or they have no spread. The message, which reports show to
    the reader, says which."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean over `n` runs with its 95 % confidence limits."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference B − A, or ratio B / A, over the `n` seeds that both arms have.

    `low` and `high` are 95 % limits over seeds with the prompts fixed, and `p` is the two-sided p-value of no
    difference. `sd` is the standard deviation of the paired differences, for a ratio that of the log ratios. `agree`
    counts the seeds whose difference has the mean's sign. `prompts_low` and `prompts_high` answer another question: the
    95 % limits over other prompts of the same kind, with the seeds fixed; None without evaluations by prompt.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float
    sd: float
    agree: int
    prompts_low: float | None = None
    prompts_high: float | None = None


def over_seeds(values: Sequence[float], bounds: Bounds = UNBOUNDED) -> Estimate:
    """Mean over runs, with an interval that stays within the bounds of the figures: Wilson's between two bounds,
    `positive_limits` above one, and Student's t without any, or for figures that break their bounds.

    Raises:
        NoInterval: fewer than two runs, a figure that is not finite, or all figures the same.
    """
    mean, error, _ = _mean_and_error(values, "identical runs")
    low, high = _limits(mean, error, t_quantile(len(values)), bounds if bounds.include(values) else UNBOUNDED)
    return Estimate(mean, low, high, len(values))


def _limits(mean: float, error: float, quantile: float, bounds: Bounds) -> tuple[float, float]:
    """The 95 % limits of a mean with standard error `error`."""
    if math.isfinite(bounds.low) and math.isfinite(bounds.high):
        width = bounds.high - bounds.low
        share = (mean - bounds.low) / width
        low, high = wilson_limits(share, share * (1 - share) / (error / width) ** 2, quantile)
        return bounds.low + width * low, bounds.low + width * high
    if math.isfinite(bounds.low):
        low, high = positive_limits(mean - bounds.low, error, quantile)
        return bounds.low + low, bounds.low + high
    return mean - quantile * error, mean + quantile * error


def limits_over_seeds(values: Sequence[float], bounds: Bounds = UNBOUNDED) -> tuple[float, float] | None:
    """The 95 % limits of the mean over runs; None where there is no interval."""
    try:
        estimate = over_seeds(values, bounds)
    except NoInterval:
        return None
    return estimate.low, estimate.high


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], bounds: Bounds = UNBOUNDED) -> Difference:
    """Mean of B − A over the seeds that both have, with Student's t interval, which ends where no difference of figures
    within `bounds` can be: at ±100 points for two shares. Pairing removes the variance that a seed adds to both.

    Raises:
        NoInterval: fewer than two common seeds, or the same difference in all.
    """
    seeds = sorted(a.keys() & b.keys())
    differences = [b[seed] - a[seed] for seed in seeds]
    mean, error, sd = _mean_and_error(differences, "identical runs: every seed shows the same difference")
    n, most = len(seeds), bounds.high - bounds.low
    half = t_quantile(n) * error
    p = 2 * float(t.sf(abs(mean) / error, n - 1))
    agree = sum(difference * mean > 0 for difference in differences)
    return Difference(mean, max(-most, mean - half), min(most, mean + half), n, p, sd, agree)


def paired_ratio(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """Geometric mean of B / A over the seeds that both have, computed as `paired_difference` of the logarithms, so that
    half and twice are equally far from 1. Values that are not positive are left out.

    Raises:
        NoInterval: as for `paired_difference`.
    """
    log_a, log_b = ({seed: math.log(x) for seed, x in values.items() if x > 0} for values in (a, b))
    log = paired_difference(log_a, log_b)
    return replace(log, mean=math.exp(log.mean), low=math.exp(log.low), high=math.exp(log.high))


def paired_by_prompt(a: Mapping[int, PerPrompt], b: Mapping[int, PerPrompt]) -> Interval:
    """Mean of B − A over prompts, each averaged over the common seeds, with Student's t interval over prompts.

    The result for several sets is the unweighted mean of their differences. The sets' prompts are independent samples,
    so their variances add, with Welch and Satterthwaite's degrees of freedom.

    Raises:
        NoInterval: no common seed, other prompts, fewer than two prompts in a set, or the same difference on all.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise NoInterval("no seed with an evaluation by prompt in both")
    sets = a[seeds[0]].keys()
    if not sets or any(run.keys() != sets for seed in seeds for run in (a[seed], b[seed])):
        raise NoInterval("not the same prompts in all runs")
    differences = [np.mean([b[seed][key] - a[seed][key] for seed in seeds], axis=0) for key in sets]
    if any(len(difference) < 2 for difference in differences):
        raise NoInterval("fewer than two prompts")
    k = len(differences)
    mean = float(np.mean([difference.mean() for difference in differences]))
    variances = np.array([difference.var(ddof=1) / len(difference) for difference in differences]) / k**2
    if _no_spread(math.sqrt(variances.sum()), max(float(abs(d).max()) for d in differences)):
        raise NoInterval("every prompt shows the same difference")
    freedom = variances.sum() ** 2 / sum(v**2 / (len(d) - 1) for v, d in zip(variances, differences, strict=True))
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variances.sum())
    most = PERCENT.high - PERCENT.low
    return Interval(mean, max(-most, mean - half), min(most, mean + half))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple testing by Holm's method (1979, Scand. J. Stat. 6, 65), in the given order.

    Claiming those below 0.05 makes one false claim or more in at most 5 % of families, however the tests depend on each
    other.
    """
    adjusted, running = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = running
    return adjusted


def detectable_difference(n: int, sd: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest difference that a two-sided t-test on `n` paired differences of standard deviation `sd` detects with
    probability `power`.

    It is in the unit of `sd` and follows from the noncentral t distribution. Measured power (by the benchmark named
    above): 79.7 to 80.8 %.

    Raises:
        NoInterval: fewer than two runs.
    """
    if n < 2:
        raise NoInterval("fewer than two runs")
    critical = float(t.ppf(1 - alpha / 2, n - 1))
    # Noncentral t as a mixture of normals over the estimated deviation: scipy's nct is NaN where n is 2 or 3.
    deviations = np.sqrt(chi2.ppf((np.arange(4000) + 0.5) / 4000, n - 1) / (n - 1))

    def excess_power(shift: float) -> float:
        detected = norm.sf(critical * deviations - shift) + norm.cdf(-critical * deviations - shift)
        return float(detected.mean()) - power

    shift = float(brentq(excess_power, 0.0, 10 * critical + 10))  # pyright: ignore[reportArgumentType]
    return shift * sd / math.sqrt(n)


def _mean_and_error(values: Sequence[float], message_if_same: str) -> tuple[float, float, float]:
    """Mean, its standard error, and the standard deviation of the values."""
    if len(values) < 2:
        raise NoInterval("fewer than two runs")
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise NoInterval("a run whose figure is not finite")
    sd = float(array.std(ddof=1))
    if _no_spread(sd, float(abs(array).max())):
        raise NoInterval(message_if_same)
    return float(array.mean()), sd / math.sqrt(len(array)), sd


def _no_spread(sd: float, largest: float) -> bool:
    """Whether all values are the same up to rounding: 0.3 − 0.1 and 0.4 − 0.2, for instance, are different doubles."""
    return sd <= 1e-12 * largest
