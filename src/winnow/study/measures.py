"""Figures of one run, read from its rows; NaN where nothing was recorded.

Late is the last quarter of a run's iterations, early the first one without iteration 0. A mean over a quarter is steadier than
its last point, and what a quarter is was set before any result was seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from winnow.study.runs import StudyRun
from winnow.study.statistics import PerPrompt
from winnow.study.study import Arm

Window = Callable[[StudyRun, float], bool]
"""Whether an iteration of the run belongs to it."""


def accuracy_key(run: StudyRun) -> str | None:
    """The metric that is a run's accuracy: the average over its evaluation sets, or that of its only one."""
    keys = {key for row in run.rows for key in row if key.startswith("eval/") and key.endswith("/acc")}
    if "eval/average/acc" in keys:
        return "eval/average/acc"
    return next(iter(keys)) if len(keys) == 1 else None


def is_late(run: StudyRun, iteration: float) -> bool:
    return iteration > 0.75 * run.iterations


def is_early(run: StudyRun, iteration: float) -> bool:
    return 0 < iteration <= 0.25 * run.iterations


def is_last(run: StudyRun, iteration: float) -> bool:
    return iteration == run.iterations


def is_trained(run: StudyRun, iteration: float) -> bool:
    return iteration > 0


def metric_values(run: StudyRun, key: str, window: Window) -> list[float]:
    """The finite values of a metric within a window, in order."""
    rows = (row for row in run.rows if window(run, row["iteration"]))
    return [row[key] for row in rows if math.isfinite(row.get(key, math.nan))]


def mean_of(key: str, window: Window, scale: float = 1.0) -> Callable[[StudyRun], float]:
    def of(run: StudyRun) -> float:
        found = metric_values(run, key, window)
        return scale * fmean(found) if found else math.nan

    return of


def total_of(key: str) -> Callable[[StudyRun], float]:
    """The last value of a running total."""

    def of(run: StudyRun) -> float:
        return (metric_values(run, key, is_trained) or [math.nan])[-1]

    return of


def accuracy_in(window: Window) -> Callable[[StudyRun], float]:
    def of(run: StudyRun) -> float:
        key = accuracy_key(run)
        return mean_of(key, window, scale=100)(run) if key else math.nan

    return of


def accuracy_by_prompt(window: Window) -> Callable[[StudyRun], PerPrompt]:
    """Per cent right of each prompt, the mean of the window's evaluations."""

    def of(run: StudyRun) -> PerPrompt:
        rates: dict[tuple[str, str], list[np.ndarray]] = {}
        for counts in run.evaluations:
            if window(run, counts.iteration):
                rates.setdefault((counts.set, counts.prompts), []).append(
                    100 * np.array(counts.correct) / counts.samples
                )
        return {key: np.mean(found, axis=0) for key, found in rates.items()}

    return of


def total_seconds(run: StudyRun) -> float:
    """`time/total`; of runs that did not record it, the sum over their iterations."""
    total = total_of("time/total")(run)
    each = metric_values(run, "perf/iteration_s", is_trained)
    return total if math.isfinite(total) else math.fsum(each) if each else math.nan


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run, NaN where it was not recorded.

    Accuracies are in per cent, their differences in points. `says` is how a sentence tells B beside A: `{b} ends {size} {side}
    {a}`. Two runs are compared by the difference, where `ratio` by the quotient: an entropy of 0.02 beside 0.01 and one of 6
    beside 3 differ equally. `per_prompt` is the same figure for each prompt of an evaluation, where there is such a thing.
    """

    key: str
    title: str
    unit: str
    of: Callable[[StudyRun], float]
    says: str = "the {title} of {b} is {size} {side} that of {a}"
    ratio: bool = False
    per_prompt: Callable[[StudyRun], PerPrompt] | None = None

    def by_seed(self, arm: Arm) -> dict[int, float]:
        """The figures that are there, by seed."""
        figures = {run.seed: self.of(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if math.isfinite(figure)}

    def prompts_by_seed(self, arm: Arm) -> dict[int, PerPrompt]:
        """Empty where there is no figure by prompt."""
        if self.per_prompt is None:
            return {}
        figures = {run.seed: self.per_prompt(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if figure}


FINAL_ACCURACY = Measure(
    "final_accuracy",
    "final accuracy",
    "%",
    accuracy_in(is_last),
    "{b} ends {size} {side} {a}",
    per_prompt=accuracy_by_prompt(is_last),
)
LATE_ACCURACY = Measure(
    "late_accuracy",
    "late accuracy",
    "%",
    accuracy_in(is_late),
    "over the last quarter {b} is {size} {side} {a}",
    per_prompt=accuracy_by_prompt(is_late),
)
EARLY_ACCURACY = Measure(
    "early_accuracy",
    "early accuracy",
    "%",
    accuracy_in(is_early),
    "over the first quarter {b} is {size} {side} {a}",
    per_prompt=accuracy_by_prompt(is_early),
)
LATE_REWARD = Measure(
    "late_reward",
    "late training reward, (1 + r) / 2",
    "%",
    # The paper plots (1 + r) / 2 of rewards of ±1, which is this: a share, whatever a wrong answer costs here.
    mean_of("rollout/acc", is_late, scale=100),
    "over the last quarter the training reward of {b} is {size} {side} that of {a}",
)
LATE_ENTROPY = Measure(
    "late_entropy",
    "late entropy",
    "nats a token",
    mean_of("train/entropy", is_late),
    "over the last quarter the entropy of {b} is {size} that of {a}",
    ratio=True,
)
LATE_KL = Measure(
    "late_kl",
    "late KL to the initial model",
    "nats a token",
    mean_of("train/kl_ref", is_late),
    "over the last quarter the KL of {b} is {size} that of {a}",
    ratio=True,
)
EARLY_KL = Measure(
    "early_kl",
    "early KL to the initial model",
    "nats a token",
    mean_of("train/kl_ref", is_early),
    "over the first quarter the KL of {b} is {size} that of {a}",
    ratio=True,
)
LATE_LENGTH = Measure(
    "late_length", "late response length", "tokens", mean_of("rollout/length/mean", is_late), ratio=True
)
SAMPLED_TOKENS = Measure(
    "sampled_tokens", "sampled tokens", "tokens", total_of("train/sampled_tokens_total"), ratio=True
)
TRAINED_TOKENS = Measure(
    "trained_tokens", "trained tokens", "tokens", total_of("train/tokens_trained_total"), ratio=True
)
SECONDS = Measure("seconds", "time", "s", total_seconds, ratio=True)
MEASURES = {
    measure.key: measure
    for measure in (
        FINAL_ACCURACY,
        LATE_ACCURACY,
        EARLY_ACCURACY,
        LATE_REWARD,
        LATE_ENTROPY,
        LATE_KL,
        EARLY_KL,
        LATE_LENGTH,
        SAMPLED_TOKENS,
        TRAINED_TOKENS,
        SECONDS,
    )
}
"""Every measure by its key."""
