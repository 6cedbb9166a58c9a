"""Measures, one figure per run, and learning curves, a metric over the course of an arm's runs.

Both are read from a run's rows; a measure is NaN where a run did not record it.

"Late" is the last quarter of a run's iterations, "early" the first quarter without iteration 0. The mean over a quarter
varies less between seeds than its last point does. Both windows were fixed before any result was seen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.study import packaged_yaml
from winnow.study.runs import StudyRun
from winnow.study.statistics import (
    PERCENT,
    POSITIVE,
    UNBOUNDED,
    Bounds,
    Estimate,
    PerPrompt,
    limits_over_seeds,
    over_seeds,
)
from winnow.study.study import Arm

THOUSANDS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))
ACCURACY = "accuracy"
"""Stands for a run's accuracy in place of a metric's name, because the evaluation sets' names differ between runs."""
WINDOWS: Mapping[str, Callable[[float, int], bool]] = {
    "start": lambda iteration, _: iteration == 0,
    "early": lambda iteration, total: 0 < iteration <= 0.25 * total,
    "late": lambda iteration, total: iteration > 0.75 * total,
    "last": lambda iteration, total: iteration == total,
    "end": lambda iteration, _: iteration > 0,
}
"""Whether an iteration belongs to a window, given the iteration and the run's number of iterations."""


def metric_key(run: StudyRun, metric: str) -> str | None:
    """The metric's key in the run's rows. For `ACCURACY`: the average over evaluation sets or the only set's accuracy;
    None if a run without the average has no set or several."""
    if metric != ACCURACY:
        return metric
    keys = {key for row in run.rows for key in row if key.startswith("eval/") and key.endswith("/acc")}
    if "eval/average/acc" in keys:
        return "eval/average/acc"
    return next(iter(keys)) if len(keys) == 1 else None


def metric_values(run: StudyRun, metric: str, window: str) -> list[float]:
    """The metric's finite values at the iterations of a window, in order."""
    key = metric_key(run, metric)
    if key is None:
        return []
    rows = (row for row in run.rows if WINDOWS[window](row["iteration"], run.iterations))
    return [row[key] for row in rows if math.isfinite(row.get(key, math.nan))]


def first_update(run: StudyRun) -> float:
    """The first iteration with an update, infinite if no iteration has one. An iteration whose row does not count its
    updates passes for one that made some."""
    updated = (row["iteration"] for row in run.rows if row["iteration"] > 0 and row.get("train/updates") != 0)
    return next(updated, math.inf)


def format_signed(value: float, decimals: int = 1) -> str:
    """`+1.5` or `−0.3`, with the typographic minus sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def format_factor(factor: float) -> str:
    """Two significant digits, or all digits before the decimal point if there are more: 0.20, 1.4, 115."""
    return f"{factor:.0f}" if factor >= 9.95 else f"{factor:#.2g}"


def column_format(values: Sequence[float]) -> Callable[[float], str]:
    """Format of a column of numbers that are not negative, with the same decimals for all and, from ten thousand on, in
    thousands: `35.2k`. The greatest has three significant digits or more, up to five as far as the smallest needs them
    to have two."""
    sizes = sorted(value for value in values if value > 0) or [1.0]
    divisor, suffix = next((unit for unit in THOUSANDS if sizes[-1] >= unit[0] * 10), (1.0, ""))
    smallest, greatest = (math.floor(math.log10(size / divisor)) for size in (sizes[0], sizes[-1]))
    decimals = max(0, min(max(1 - smallest, 2 - greatest), 4 - greatest))
    return lambda value: f"{value / divisor:.{decimals}f}{suffix}"


@dataclass(frozen=True, slots=True)
class Measure:
    """Figure of a run, with how it is written and compared; the fields are explained in `measures.yaml`.

    Accuracies are in per cent and their differences in percentage points. No measure is negative.
    """

    key: str
    title: str
    unit: str
    metric: str
    window: str
    sentence: str = "the {title} of {b} is {size} {side} that of {a}"
    ratio: bool = False
    sum_of: str | None = None
    zero_at_start: bool = False

    @property
    def bounds(self) -> Bounds:
        return PERCENT if self.unit == "%" else POSITIVE

    def over_seeds(self, arm: Arm) -> Estimate:
        """The mean over the arm's runs. Raises NoInterval as `winnow.study.statistics.over_seeds`."""
        return over_seeds(list(self.by_seed(arm).values()), self.bounds)

    def limits(self, arm: Arm) -> tuple[float, float] | None:
        """The 95 % limits of the mean over the arm's runs; None where there is no interval."""
        return limits_over_seeds(list(self.by_seed(arm).values()), self.bounds)

    def value(self, run: StudyRun) -> float:
        """The run's figure, NaN if it was not recorded."""
        values = metric_values(run, self.metric, self.window)
        if not values and self.sum_of:
            values = [math.fsum(summands)] if (summands := metric_values(run, self.sum_of, "end")) else []
        if self.window == "end":
            values = values[-1:]
        if values and self.zero_at_start and not self._sees_an_update(run):
            return 0.0
        scale = 100 if self.unit == "%" else 1
        return scale * fmean(values) if values else math.nan

    def _sees_an_update(self, run: StudyRun) -> bool:
        """Whether an iteration of the window comes after that of the first update."""
        within = (row["iteration"] for row in run.rows if WINDOWS[self.window](row["iteration"], run.iterations))
        return max(within, default=0) > first_update(run)

    def by_seed(self, arm: Arm) -> dict[int, float]:
        """The figures of the arm's runs by seed, without those that were not recorded."""
        figures = {run.seed: self.value(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if math.isfinite(figure)}

    def prompts_by_seed(self, arm: Arm) -> dict[int, PerPrompt]:
        """Percentage correct of each prompt, by seed; empty for measures other than accuracies."""
        if self.metric != ACCURACY:
            return {}
        figures = {run.seed: self._by_prompt(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if figure}

    def _by_prompt(self, run: StudyRun) -> PerPrompt:
        """Percentage correct of each prompt, averaged over the evaluations in the window."""
        rates: dict[tuple[str, str], list[np.ndarray]] = {}
        for counts in run.evaluations:
            if WINDOWS[self.window](counts.iteration, run.iterations):
                rate = 100 * np.array(counts.correct) / counts.samples
                rates.setdefault((counts.set, counts.prompts), []).append(rate)
        return {key: np.mean(of_prompts, axis=0) for key, of_prompts in rates.items()}

    def recorded_in(self, arms: Sequence[Arm]) -> bool:
        """Whether a run of the arms has the figure."""
        return any(self.by_seed(arm) for arm in arms)

    def number_format(self, values: Sequence[float]) -> Callable[[float], str]:
        """Format of a column with these values: one decimal for per cents, otherwise that of `column_format`."""
        return "{:.1f}".format if self.unit == "%" else column_format(values)

    def format_effect(self, effect: float) -> str:
        """`−10.6` for a difference, `×0.25` for a ratio."""
        return f"×{format_factor(effect)}" if self.ratio else format_signed(effect)


MEASURES = {entry["key"]: Measure(**entry) for entry in packaged_yaml("measures.yaml")}
"""Every measure by its key."""
FINAL_ACCURACY, LATE_ACCURACY, LATE_KL = (MEASURES[key] for key in ("final_accuracy", "late_accuracy", "late_kl"))
START_ACCURACY = replace(FINAL_ACCURACY, window="start")


Axis = Literal["iterations", "sampled_tokens", "trained_tokens", "seconds"]
COLUMNS: dict[Axis, str] = {
    "iterations": "iteration",
    "sampled_tokens": "train/sampled_tokens_total",
    "trained_tokens": "train/tokens_trained_total",
    "seconds": "time/total",
}
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean over `n` runs at the (X,) points `x`, in the metric's own unit; empty if no run recorded the metric.

    `low` and `high` are 95 % limits at each point, not for the whole curve at once. They are None if there are fewer
    than two runs or if all runs are the same.
    """

    x: Values
    mean: Values
    low: Values | None
    high: Values | None
    n: int


def curve(arm: Arm, metric: str, x: Axis = "iterations", bounds: Bounds = UNBOUNDED) -> Curve:
    """Curve of an arm, without the runs that lack the metric or the axis. The limits stay within the metric's `bounds`.

    Over iterations it has the points that all runs have. Over any other axis the runs are interpolated linearly, over
    the range that they share, at as many points as the longest run has.
    """
    runs = [points for run in arm.runs if len((points := _run_points(run, metric, COLUMNS[x]))[0])]
    if not runs:
        return Curve(np.empty(0), np.empty(0), None, None, 0)
    grid, heights = _aligned(runs) if x == "iterations" else _interpolated(runs)
    low, high = _limits(heights, bounds)
    return Curve(grid, heights.mean(axis=0), low, high, len(runs))


def _run_points(run: StudyRun, metric: str, column: str) -> tuple[Values, Values]:
    """The run's finite points. Before training, at iteration 0, every axis is at 0."""
    key = metric_key(run, metric)
    recorded = key is not None and any(column in row for row in run.rows)
    pairs = [
        (0.0 if row["iteration"] == 0 else row.get(column, math.nan), row.get(str(key), math.nan))
        for row in run.rows
        if recorded
    ]
    points = np.array([pair for pair in pairs if math.isfinite(sum(pair))]).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _aligned(runs: list[tuple[Values, Values]]) -> tuple[Values, Values]:
    """The shared x values, and (R, X) values of the runs there."""
    shared = runs[0][0]
    for x, _ in runs[1:]:
        shared = np.intersect1d(shared, x)
    return shared, np.stack([y[np.searchsorted(x, shared)] for x, y in runs])


def _interpolated(runs: list[tuple[Values, Values]]) -> tuple[Values, Values]:
    first, end = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    grid = np.linspace(first, end, max(len(x) for x, _ in runs)) if first < end else np.empty(0)
    return grid, np.stack([np.interp(grid, x, y) for x, y in runs])


def _limits(heights: Values, bounds: Bounds) -> tuple[Values, Values] | tuple[None, None]:
    """(R, X) values to (X,) limits. Where all runs have the same value, as before training, the limits equal it."""
    if len(heights) < 2 or (heights == heights[0]).all():
        return None, None
    columns = heights.T.tolist()
    low, high = np.array([limits_over_seeds(column, bounds) or (column[0], column[0]) for column in columns]).T
    return low, high
