"""Coverage of the 95 % intervals over seeds, false claims with and without Holm's correction, and power.

`python -m benchmarks.seed_interval_coverage` prints the tables in Markdown (half a minute).
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import beta, expon, lognorm, norm

from winnow.study.statistics import (
    POSITIVE,
    SHARE,
    UNBOUNDED,
    Bounds,
    detectable_difference,
    holm,
    over_seeds,
    paired_difference,
)

Values = NDArray[np.float64]
Quantile = Callable[[Values], Values]
NEAR_1 = beta(29.1, 0.9).ppf
SHAPES: Mapping[str, tuple[Quantile, Quantile]] = {
    "normal": (norm(0.9, 0.02).ppf, norm(0.9, 0.02).ppf),
    "skewed: exponential": (expon(0, 0.02).ppf, expon(0, 0.02).ppf),
    "near 1: Beta(29.1, 0.9), mean 0.97": (NEAR_1, NEAR_1),
    "Beta(18, 2), mean 0.9; B near 1": (beta(18, 2).ppf, NEAR_1),
    "even: Beta(2, 2), mean 0.5; B near 1": (beta(2, 2).ppf, NEAR_1),
    "log-normal, σ = 0.5": (lognorm(0.5).ppf, lognorm(0.5).ppf),
}
"""Distributions of the figures of arms A and B over seeds, as quantile functions."""
POSITIVE_SHAPES = ("skewed: exponential", "log-normal, σ = 0.5")
"""Shapes of figures without an upper bound, such as an entropy; the others are shares."""
SEEDS = (2, 3, 5, 10)
REPETITIONS = 4000
CORRELATION = 0.5
"""Correlation of the two arms' figures of one seed, before they are transformed to the shape."""
RESAMPLES = 500


def uniform(rng: Generator, repetitions: int, seeds: int) -> tuple[Values, Values]:
    """(repetitions, seeds) uniform figures of arms A and B, dependent within a seed (a Gaussian copula)."""
    shared, a, b = rng.standard_normal((3, repetitions, seeds))
    own = np.sqrt(1 - CORRELATION)
    return norm.cdf(np.sqrt(CORRELATION) * shared + own * a), norm.cdf(np.sqrt(CORRELATION) * shared + own * b)


def draw(shape: str, seeds: int, repetitions: int, seed: int = 0) -> tuple[Values, Values]:
    """(repetitions, seeds) figures of arms A and B with a shape of `SHAPES`."""
    of_a, of_b = SHAPES[shape]
    a, b = uniform(np.random.default_rng(seed), repetitions, seeds)
    return of_a(a), of_b(b)


def truth(shape: str) -> tuple[float, float]:
    """The means of arms A and B, as integrals over the quantile functions."""
    middle = (np.arange(500_000) + 0.5) / 500_000
    of_a, of_b = SHAPES[shape]
    return float(of_a(middle).mean()), float(of_b(middle).mean())


def bounds_of(shape: str) -> Bounds:
    """The bounds of a shape's figures."""
    return POSITIVE if shape in POSITIVE_SHAPES else SHARE


def single_coverage(values: Values, mean: float, bounds: Bounds) -> float:
    """Coverage of the interval of a single arm; it is Student's t interval if the figures have no bounds."""
    estimates = [over_seeds(row, bounds) for row in values.tolist()]
    return sum(each.low <= mean <= each.high for each in estimates) / len(estimates)


def paired_coverage(a: Values, b: Values, difference: float) -> float:
    """Coverage of Student's t interval of the paired difference B − A."""
    found = [
        paired_difference(dict(enumerate(x)), dict(enumerate(y))) for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    return sum(each.low <= difference <= each.high for each in found) / len(found)


def bootstrap_coverage(values: Values, mean: float, seed: int = 1) -> float:
    """Coverage of the percentile bootstrap over seeds, which Winnow does not use, for comparison."""
    rng, (repetitions, n), held = np.random.default_rng(seed), values.shape, 0
    for start in range(0, repetitions, 250):
        part = values[start : start + 250]
        chosen = rng.integers(n, size=(len(part), RESAMPLES * n))
        means = np.take_along_axis(part, chosen, axis=1).reshape(len(part), RESAMPLES, n).mean(axis=2)
        low, high = np.quantile(means, [0.025, 0.975], axis=1)
        held += int(((low <= mean) & (mean <= high)).sum())
    return held / repetitions


def false_claims(claims: int, seeds: int, families: int, seed: int = 2) -> tuple[float, float]:
    """The share of families with a p-value below 0.05, with and without Holm's correction.

    A family compares `claims` arms with a common baseline from which none of them differs.
    """
    figures = np.random.default_rng(seed).standard_normal((families, claims + 1, seeds))
    found = np.zeros(2)
    for baseline, *arms in figures:
        a = dict(enumerate(baseline))
        p = [paired_difference(a, dict(enumerate(arm))).p for arm in arms]
        found += (min(holm(p)) < 0.05, min(p) < 0.05)
    by_holm, without = found / families
    return float(by_holm), float(without)


def power(seeds: int, repetitions: int, alpha: float = 0.05, seed: int = 3) -> float:
    """The share of repetitions in which a difference of the detectable size is found."""
    differences = np.random.default_rng(seed).normal(
        detectable_difference(seeds, 1.0, alpha=alpha), 1.0, (repetitions, seeds)
    )
    nothing = dict.fromkeys(range(seeds), 0.0)
    return sum(paired_difference(nothing, dict(enumerate(row))).p < alpha for row in differences) / repetitions


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |")


def main(repetitions: int) -> None:
    """Print the tables."""
    row("figures of A (and B) over seeds", "seeds", "Winnow's", "Student's t", "bootstrap", "paired t", "bootstrap")
    row(*["---"] * 7)
    for shape in SHAPES:
        mean, other = truth(shape)
        for n in SEEDS:
            a, b = draw(shape, n, repetitions)
            ours, students = (single_coverage(a, mean, bounds) for bounds in (bounds_of(shape), UNBOUNDED))
            single = ours, students, bootstrap_coverage(a, mean)
            pairs = paired_coverage(a, b, other - mean), bootstrap_coverage(b - a, other - mean)
            row(shape, n, *(f"{share:.1%}" for share in single + pairs))
    print()
    row("seeds", "families with a false claim among 10, Holm", "without Holm", "power at the detectable difference")
    row(*["---"] * 4)
    for n in SEEDS:
        row(n, *(f"{share:.1%}" for share in (*false_claims(10, n, repetitions), power(n, repetitions))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seed_interval_coverage")
    parser.add_argument(
        "--repetitions", type=int, default=REPETITIONS, help=f"simulated studies per figure (default {REPETITIONS})"
    )
    main(parser.parse_args().repetitions)
