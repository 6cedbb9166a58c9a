"""Learning curves: a metric's mean over an arm's runs along an axis of cost, with 95 % limits."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.study.measures import metric_key
from winnow.study.runs import StudyRun
from winnow.study.statistics import limits_over_seeds
from winnow.study.study import Arm

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


def curve(arm: Arm, metric: str, x: Axis = "iterations") -> Curve:
    """Curve of an arm, without the runs that lack the metric or the axis.

    Over iterations it has the points that all runs have. Over any other axis the runs are interpolated linearly, over
    the range that they share, at as many points as the longest run has.
    """
    runs = [points for run in arm.runs if len((points := _run_points(run, metric, COLUMNS[x]))[0])]
    if not runs:
        return Curve(np.empty(0), np.empty(0), None, None, 0)
    grid, heights = _aligned(runs) if x == "iterations" else _interpolated(runs)
    low, high = _limits(heights)
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


def _limits(heights: Values) -> tuple[Values, Values] | tuple[None, None]:
    """(R, X) values to (X,) limits. Where all runs have the same value, as before training, the limits equal it."""
    if len(heights) < 2 or (heights == heights[0]).all():
        return None, None
    low, high = np.array([limits_over_seeds(column) or (column[0], column[0]) for column in heights.T.tolist()]).T
    return low, high
