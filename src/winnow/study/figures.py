"""Figures of one run, read from its rows; NaN where nothing was recorded.

Late is the last quarter of a run's iterations, early the first one without iteration 0. A mean over a quarter is steadier than
its last point, and what a quarter is was set before any result was seen.
"""

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np

from winnow.study.runs import StudyRun
from winnow.study.statistics import PerPrompt

Window = Callable[[StudyRun, float], bool]
"""Whether an iteration of the run belongs to it."""


def accuracy_key(run: StudyRun) -> str | None:
    """The metric that is a run's accuracy: the average over its evaluation sets, or that of its only one."""
    keys = {key for row in run.rows for key in row if key.startswith("eval/") and key.endswith("/acc")}
    if "eval/average/acc" in keys:
        return "eval/average/acc"
    return next(iter(keys)) if len(keys) == 1 else None


def late(run: StudyRun, iteration: float) -> bool:
    return iteration > 0.75 * run.iterations


def early(run: StudyRun, iteration: float) -> bool:
    return 0 < iteration <= 0.25 * run.iterations


def last(run: StudyRun, iteration: float) -> bool:
    return iteration == run.iterations


def trained(run: StudyRun, iteration: float) -> bool:
    return iteration > 0


def figures(run: StudyRun, key: str, window: Window) -> list[float]:
    """The finite values of a metric within a window, in order."""
    rows = (row for row in run.rows if window(run, row["iteration"]))
    return [row[key] for row in rows if math.isfinite(row.get(key, math.nan))]


def mean_of(key: str, window: Window, scale: float = 1.0) -> Callable[[StudyRun], float]:
    def of(run: StudyRun) -> float:
        found = figures(run, key, window)
        return scale * fmean(found) if found else math.nan

    return of


def total_of(key: str) -> Callable[[StudyRun], float]:
    """The last value of a running total."""

    def of(run: StudyRun) -> float:
        return (figures(run, key, trained) or [math.nan])[-1]

    return of


def accuracy(window: Window) -> Callable[[StudyRun], float]:
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


def seconds(run: StudyRun) -> float:
    """`time/total`; of runs that did not record it, the sum over their iterations."""
    total = total_of("time/total")(run)
    each = figures(run, "perf/iteration_s", trained)
    return total if math.isfinite(total) else math.fsum(each) if each else math.nan
