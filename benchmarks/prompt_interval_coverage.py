"""Coverage of the 95 % intervals over prompts: prompts from a population with a known mean, samples from the prompts.

`python -m benchmarks.prompt_interval_coverage` prints the tables in Markdown (9 minutes).
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from winnow.evaluation.intervals import Interval, accuracy, clustered_mean, paired_difference, pass_at_k

Shape = tuple[float, float]
SHAPES: dict[str, Shape] = {
    "Beta(0.3, 0.3): half, all or nothing": (0.3, 0.3),
    "Beta(2, 2): half, even": (2, 2),
    "Beta(1, 5): 17 %": (1, 5),
    "Beta(0.2, 2): 9 %": (0.2, 2),
    "Beta(5, 1): 83 %": (5, 1),
    "Beta(3, 0.1): 97 %, all or nothing": (3, 0.1),
    "Beta(0.1, 3): 3 %, all or nothing": (0.1, 3),
    "Beta(0.05, 2.45): 2 %, all or nothing": (0.05, 2.45),
    "Beta(2, 60): 3 %, even": (2, 60),
}
"""Distributions of the solve probabilities of prompts: the two parameters of a Beta distribution."""
PROMPTS = (30, 40, 272, 500, 675, 1319)
"""Prompts of AIME24, AMC23, Minerva, MATH500, OlympiadBench and GSM8K."""
SAMPLES = (1, 4, 16)


def coverage(interval: Callable[[Generator], Interval], truth: float, repetitions: int, seed: int = 0) -> float:
    """The share of `repetitions` in which an interval of fresh data contains `truth`, up to rounding."""
    rng = np.random.default_rng(seed)
    drawn = (interval(rng) for _ in range(repetitions))
    return sum(each.low - 1e-12 <= truth <= each.high + 1e-12 for each in drawn) / repetitions


def verdicts(rng: Generator, solve: NDArray[np.float64], samples: int) -> NDArray[np.bool_]:
    """(P, G) verdicts of prompts with the given (P,) solve probabilities."""
    return rng.random((len(solve), samples)) < solve[:, None]


def accuracy_coverage(shape: Shape, prompts: int, samples: int, repetitions: int) -> float:
    """Coverage of the interval of an accuracy."""
    a, b = shape

    def interval(rng: Generator) -> Interval:
        return accuracy(verdicts(rng, rng.beta(a, b, prompts), samples))

    return coverage(interval, a / (a + b), repetitions)


def pass_coverage(shape: Shape, prompts: int, k: int, repetitions: int, samples: int = 16) -> float:
    """Coverage of the interval of pass@k. The truth is 1 − E[(1 − p)^k], a product for a Beta distribution."""
    a, b = shape

    def interval(rng: Generator) -> Interval:
        return pass_at_k(verdicts(rng, rng.beta(a, b, prompts), samples), k)

    i = np.arange(k)
    return coverage(interval, 1 - float(np.prod((b + i) / (a + b + i))), repetitions)


def difference_coverage(
    shape: Shape, shared: float, gain: float, prompts: int, samples: int, repetitions: int
) -> float:
    """Coverage of the interval of a paired difference B − A.

    B has A's solve probability p on a share `shared` of the prompts and its own on the rest, increased by `gain` · (1 −
    p).
    """
    a, b = shape

    def interval(rng: Generator) -> Interval:
        first, own = rng.beta(a, b, prompts), rng.beta(a, b, prompts)
        second = np.where(rng.random(prompts) < shared, first, own)
        return paired_difference(verdicts(rng, first, samples), verdicts(rng, second + gain * (1 - second), samples))

    return coverage(interval, gain * b / (a + b), repetitions)


def length_coverage(sigma_prompts: float, sigma_samples: float, prompts: int, samples: int, repetitions: int) -> float:
    """Coverage of the interval of a mean length. Lengths are log-normal: a prompt's factor times a sample's."""

    def interval(rng: Generator) -> Interval:
        logs = rng.normal(0, sigma_prompts, (prompts, 1)) + rng.normal(0, sigma_samples, (prompts, samples))
        return clustered_mean(np.exp(logs))

    return coverage(interval, float(np.exp((sigma_prompts**2 + sigma_samples**2) / 2)), repetitions)


def show(title: str, columns: Sequence[int], rows: Mapping[str, Callable[[int, int], float]]) -> None:
    """Print coverage in per cent: one row per name, one column per number of prompts, one figure per value of
    `columns`."""
    print(f"\n{title}\n\n| | {' | '.join(f'P = {p}' for p in PROMPTS)} |\n{'|---' * (len(PROMPTS) + 1)}|")
    for name, of in rows.items():
        cells = [" / ".join(f"{100 * of(prompts, column):.1f}" for column in columns) for prompts in PROMPTS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(repetitions: int) -> None:
    """Print the tables."""
    show(
        "accuracy, G = 1 / 4 / 16",
        SAMPLES,
        {name: partial(accuracy_coverage, shape, repetitions=repetitions) for name, shape in SHAPES.items()},
    )
    show(
        "pass@k of 16 samples, k = 2 / 4 / 8 / 16",
        (2, 4, 8, 16),
        {name: partial(pass_coverage, shape, repetitions=repetitions) for name, shape in SHAPES.items()},
    )
    show(
        "paired difference, G = 1 / 4 / 16 on both sides; shared prompts, gain",
        SAMPLES,
        {
            f"{name}; {shared:.0%}, {gain:.0%}": partial(
                difference_coverage, shape, shared, gain, repetitions=repetitions
            )
            for name, shape in SHAPES.items()
            for shared, gain in ((0.0, 0.0), (0.8, 0.1), (1.0, 0.02))
        },
    )
    show(
        "mean length, G = 1 / 4 / 16; log-normal, σ between and within prompts",
        SAMPLES,
        {
            f"{between}, {within}": partial(length_coverage, between, within, repetitions=repetitions)
            for between, within in ((0.3, 0.3), (0.6, 0.5), (1.0, 0.5))
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompt_interval_coverage")
    parser.add_argument("--repetitions", type=int, default=4000, help="simulated data sets per figure (default 4000)")
    main(parser.parse_args().repetitions)
