"""Curves of several arms in one panel, with bands where there are seeds for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from winnow.study.curves import Axis
from winnow.study.report.axes import Name, beside, logarithmic, scale
from winnow.study.report.figure import Panel
from winnow.study.report.metrics import AXIS_TITLES, Metric
from winnow.study.report.palette import Style
from winnow.study.report.subject import Subject
from winnow.study.study import Arm

MANY, KEPT = 20, 110
"""More points than MANY are shown as a running mean; of more than KEPT evenly spaced ones are drawn."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve as drawn: smoothed and thinned. `low` and `high` are None where there is no band."""

    style: Style
    x: Values
    y: Values
    low: Values | None
    high: Values | None


def window(points: int) -> int:
    """Points in the running mean: 1, which is none, up to MANY, then an odd tenth of them, at most 21."""
    return min(21, points // 20 * 2 + 1) if points > MANY else 1


def running_mean(values: Values, size: int) -> Values:
    """Centred, so that it does not lag. Narrower where it meets the start, which would else be drawn where it never was; at the
    end over what there is."""
    half = size // 2
    reach = [(i, min(i, half)) for i in range(len(values))]
    return np.array([values[i - back : i + back + 1].mean() for i, back in reach])


def lines(subject: Subject, arms: Sequence[Arm], metric: Metric, x: Axis | None = None) -> list[Line]:
    """The arms' curves, those without the metric left out."""
    drawn = []
    for arm in arms:
        curve = subject.curve(arm, metric.key, x)
        if not len(curve.x):
            continue
        size = window(len(curve.x)) if metric.smooth else 1
        kept = np.unique(np.linspace(0, len(curve.x) - 1, KEPT).round().astype(int))
        y, low, high = (
            None if values is None else running_mean(values, size)[kept]
            for values in (curve.mean, curve.low, curve.high)
        )
        assert y is not None
        drawn.append(Line(subject.styles[arm.label], curve.x[kept], y, low, high))
    return drawn


def panels(
    subject: Subject, parts: Sequence[tuple[str, Sequence[Arm]]], metric: Metric, x: Axis | None = None
) -> list[Panel]:
    """A panel for each part, all with one scale, so that parts can be compared. Parts where nothing was recorded are left out."""
    by_part = [(name, lines(subject, arms, metric, x)) for name, arms in parts]
    limits = _limits([line for _, drawn in by_part for line in drawn], metric)
    return [
        Panel(
            f"{metric.title} · {name}" if name else metric.title,
            metric.unit,
            _drawing(drawn, metric, limits, x or subject.x),
        )
        for name, drawn in by_part
        if drawn
    ]


def with_references(subject: Subject, arms: Sequence[Arm], others: Sequence[Arm], metric: Metric) -> list[Panel]:
    """One panel; of `others` only the best point of their mean curve, as a level."""
    drawn = lines(subject, arms, metric)
    levels = [(line.style, float(line.y.max())) for line in lines(subject, others, metric)]
    if not drawn:
        return []
    limits = _limits(drawn, metric, [level for _, level in levels])
    return [Panel(metric.title, metric.unit, _drawing(drawn, metric, limits, subject.x, levels))]


def draw(axes: Axes, drawn: Sequence[Line], extra: Sequence[tuple[Style, float]] = ()) -> list[Name]:
    """Curves, bands and levels; returns where each ends, to be named."""
    for line in drawn:
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=line.style.light, alpha=0.13, linewidth=0)
    for line in drawn:
        few = {"marker": "o", "markersize": 3.2} if len(line.x) <= 12 else {}
        dash = (0, line.style.dash) if line.style.dash else "-"
        axes.plot(line.x, line.y, color=line.style.light, linewidth=1.7, linestyle=dash, solid_joinstyle="round", **few)
    right = max(line.x[-1] for line in drawn)
    for style, level in extra:
        axes.axhline(level, color=style.light, linewidth=1, linestyle=(0, (1, 2)))
    ends = [Name(line.style.title, line.x[-1], line.y[-1], line.style.light) for line in drawn]
    return ends + [Name(f"{style.title}, best", right, level, style.light) for style, level in extra]


def _drawing(
    drawn: Sequence[Line],
    metric: Metric,
    limits: tuple[float, float],
    x: Axis,
    levels: Sequence[tuple[Style, float]] = (),
):
    def on(axes: Axes) -> None:
        names = draw(axes, drawn, levels)
        scale(axes, metric.text, AXIS_TITLES[x])
        left, right = min(line.x[0] for line in drawn), max(line.x[-1] for line in drawn)
        axes.set_xlim((left, right) if left < right else (left - 1, right + 1))
        axes.set_ylim(*limits)
        if metric.log and limits[0] > 0:
            axes.set(yscale="log", ylim=limits)
            logarithmic(axes.yaxis, limits, metric.text)
        beside(axes, names)

    return on


def _limits(drawn: Sequence[Line], metric: Metric, levels: Sequence[float] = ()) -> tuple[float, float]:
    """All of the means, and of the bands what lies within half the means' range around them: a band over two seeds is no scale."""
    if not drawn:
        return 0.0, 1.0
    means = np.concatenate([*(line.y for line in drawn), np.array(levels, dtype=float)])
    if metric.log and (found := _log_limits(drawn)):
        return found
    low, high = float(means.min()), float(means.max())
    room = 0.5 * (high - low) or abs(high) or 1.0
    bands = [limit for line in drawn for limit in (line.low, line.high) if limit is not None]
    if bands:
        ends = np.concatenate(bands)
        low, high = min(low, max(float(ends.min()), low - room)), max(high, min(float(ends.max()), high + room))
    margin = 0.04 * (high - low) or abs(high) / 2 or 1.0
    return (0.0 if metric.from_zero else low - margin), high + margin


def _log_limits(drawn: Sequence[Line]) -> tuple[float, float] | None:
    """Of the means, at the lower end without each one's first tenth: a KL begins at 0, as many decades down as one likes."""
    late = np.concatenate([line.y[len(line.y) // 10 :] for line in drawn])
    late = late[late > 0]
    return (float(late.min()) / 1.4, 1.4 * max(float(line.y.max()) for line in drawn)) if len(late) else None
