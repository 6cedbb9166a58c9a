"""Means over seeds and paired differences, with 95 % intervals. A run is one observation, however many rows it has.

Student's t, not the percentile bootstrap: that resamples a handful of runs and leaves out both the small-sample quantile and
the factor n / (n − 1) of the variance. Measured (`python -m benchmarks.seed_interval_coverage`, 4000 repetitions), what is
called 95 % holds the truth in

    seeds                                                          3      5     10
    paired t, B − A: figures normal, exponential or near 1   95–97  95–97  94–96
    paired t, A around 0.90, B near 1                               93     92     94
    paired percentile bootstrap, the four of them                72–75  81–84  88–90
    t of a single arm, normal figures                               95     94     95
    t of a single arm, exponential or near 1                        88  88–89     90

so that claims, which are all paired, are safe, and the interval of one arm with skewed figures is somewhat too narrow. With 10
arms like their common baseline, Holm makes a false claim in 4.5 to 4.8 % of families; without it, 31 to 36 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

from winnow.evaluation.intervals import Interval, t_quantile

PerPrompt = Mapping[tuple[str, str], NDArray[np.float64]]
"""Of one run: a figure for each prompt, by evaluation set and the hash of its prompts."""


class NoInterval(ValueError):
    """There is no interval to be had: too few runs, or runs without any spread. The message says which, in words for a reader."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` runs and its 95 % confidence limits."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What B has more than A, over `n` seeds that both have, with its 95 % interval over seeds, prompts fixed.

    Of a ratio (`ratio` below), B over A. `p` is the two-sided p-value of no difference. `sd` is the standard deviation of the
    paired differences, of a ratio's logarithms; `agree` is how many seeds lie on the mean's side. `prompts_low` and
    `prompts_high` are limits of another question, seeds fixed: what other prompts of the same kind would give; None where no
    evaluation by prompt was recorded.
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


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over runs with Student's t interval.

    Raises:
        Refused: fewer than two runs, or all the same.
    """
    mean, half, _ = _student(values, "identical runs")
    return Estimate(mean, mean - half, mean + half, len(values))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """B − A, seed by seed: what a seed brings to both cancels. Seeds that only one has are left out.

    Raises:
        Refused: fewer than two common seeds, or the same difference in all.
    """
    seeds = sorted(a.keys() & b.keys())
    differences = [b[seed] - a[seed] for seed in seeds]
    mean, half, sd = _student(differences, "identical runs: every seed shows the same difference")
    n = len(seeds)
    p = 2 * float(t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1))
    agree = sum(difference * mean > 0 for difference in differences)
    return Difference(mean, mean - half, mean + half, n, p, sd, agree)


def paired_ratio(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """B / A, seed by seed: `paired` on logarithms, so that half and twice are equally far from 1. Values not above 0 are left out.

    Raises:
        Refused: as `paired`.
    """
    log_a, log_b = ({seed: math.log(x) for seed, x in values.items() if x > 0} for values in (a, b))
    log = paired_difference(log_a, log_b)
    return replace(log, mean=math.exp(log.mean), low=math.exp(log.low), high=math.exp(log.high))


def paired_by_prompt(a: Mapping[int, PerPrompt], b: Mapping[int, PerPrompt]) -> Interval:
    """B − A, prompt by prompt, each averaged over the common seeds, with Student's t interval over prompts, seeds fixed.

    Of several sets the plain mean of their differences, as prompts of a set were drawn apart from the others': variances add,
    with Welch and Satterthwaite's degrees of freedom.

    Raises:
        Refused: no common seed, other prompts, fewer than two prompts in a set, or the same difference on all.
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
    return Interval(mean, mean - half, mean + half)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, 1979, Scand. J. Stat. 6, 65), in their order.

    Claiming those below 0.05 makes one false claim or more in at most 5 % of families, however the tests depend.
    """
    adjusted, running = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = running
    return adjusted


def detectable_difference(n: int, sd: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest difference that a two-sided t-test on `n` paired differences of standard deviation `sd` finds with `power`.

    In the unit of `sd`; by the noncentral t distribution. Measured power (as above): 79.7 to 80.8 %.

    Raises:
        Refused: fewer than two runs.
    """
    if n < 2:
        raise NoInterval("fewer than two runs")
    critical = float(t.ppf(1 - alpha / 2, n - 1))
    # Noncentral t as a mixture of normals over the estimated deviation: scipy's nct is NaN where n is 2 or 3.
    deviations = np.sqrt(chi2.ppf((np.arange(4000) + 0.5) / 4000, n - 1) / (n - 1))

    def missing(shift: float) -> float:
        found = norm.sf(critical * deviations - shift) + norm.cdf(-critical * deviations - shift)
        return float(found.mean()) - power

    shift = float(brentq(missing, 0.0, 10 * critical + 10))  # pyright: ignore[reportArgumentType]
    return shift * sd / math.sqrt(n)


def _student(values: Sequence[float], same: str) -> tuple[float, float, float]:
    """Mean, half width and standard deviation."""
    if len(values) < 2:
        raise NoInterval("fewer than two runs")
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise NoInterval("a run whose figure is not finite")
    sd = float(array.std(ddof=1))
    if _no_spread(sd, float(abs(array).max())):
        raise NoInterval(same)
    return float(array.mean()), t_quantile(len(array)) * sd / math.sqrt(len(array)), sd


def _no_spread(sd: float, size: float) -> bool:
    """Up to rounding: differences of the same two decimals are not always the same double."""
    return sd <= 1e-12 * size
