"""A metric over the course of an arm's runs, with a band."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.study.measures import accuracy_key
from winnow.study.runs import StudyRun
from winnow.study.statistics import NoInterval, over_seeds
from winnow.study.study import Arm

Axis = Literal["iterations", "sampled_tokens", "trained_tokens", "seconds"]
COLUMNS: dict[Axis, str] = {
    "iterations": "iteration",
    "sampled_tokens": "train/sampled_tokens_total",
    "trained_tokens": "train/tokens_trained_total",
    "seconds": "time/total",
}
ACCURACY = "accuracy"
"""Instead of a metric's name: the accuracy of each run, whatever its evaluation sets are called."""

RunPoints = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Curve:
    """`mean` over `n` runs at the (X,) points `x`, in the metric's own unit; all are empty where no run has it.

    `low` and `high` are limits of 95 % at each point (of all points together they hold less often), None where fewer than two
    runs differ. `runs` has each run's own points, by seed.
    """

    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None
    n: int
    runs: list[RunPoints]


def curve(arm: Arm, metric: str, x: Axis = "iterations") -> Curve:
    """Over iterations at those that all runs have; over any other axis by linear interpolation, at as many points as the
    longest run has, over the range that all runs share. Runs without the metric or the axis are left out."""
    runs = [points for run in arm.runs if len((points := _run_points(run, metric, COLUMNS[x]))[0])]
    if not runs:
        empty = np.empty(0)
        return Curve(empty, empty, None, None, 0, [])
    grid, heights = _aligned(runs) if x == "iterations" else _interpolated(runs)
    low, high = _band(heights)
    return Curve(grid, heights.mean(axis=0), low, high, len(runs), runs)


def _run_points(run: StudyRun, metric: str, column: str) -> RunPoints:
    """Finite ones only. Before training, at iteration 0, nothing has been sampled, trained on or waited for."""
    key = accuracy_key(run) if metric == ACCURACY else metric
    pairs = [
        (0.0 if row["iteration"] == 0 else row.get(column, math.nan), row.get(key, math.nan) if key else math.nan)
        for row in run.rows
    ]
    if not any(column in row for row in run.rows):
        pairs = []
    points = np.array([pair for pair in pairs if math.isfinite(sum(pair))]).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _aligned(runs: list[RunPoints]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shared = runs[0][0]
    for x, _ in runs[1:]:
        shared = np.intersect1d(shared, x)
    return shared, np.stack([y[np.searchsorted(x, shared)] for x, y in runs])


def _interpolated(runs: list[RunPoints]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, end = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    grid = np.linspace(first, end, max(len(x) for x, _ in runs)) if first < end else np.empty(0)
    return grid, np.stack([np.interp(grid, x, y) for x, y in runs])


def _band(heights: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """(R, X) to limits (X,). Where all runs meet in a point, as before training, the band has no width there."""
    if len(heights) < 2 or (heights == heights[0]).all():
        return None, None
    limits = [_limits(column) for column in heights.T]
    return np.array([low for low, _ in limits]), np.array([high for _, high in limits])


def _limits(column: NDArray[np.float64]) -> tuple[float, float]:
    try:
        estimate = over_seeds(column.tolist())
    except NoInterval:
        return float(column[0]), float(column[0])
    return estimate.low, estimate.high
