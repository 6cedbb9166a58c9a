"""Learning curves of a report: the paper's figures, the overview of every arm, budgets, gradient mass, and prompts by
outcome."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from winnow.run_logs.plot_style import (
    BAD,
    GOOD,
    INK,
    MUTED,
    PAPER,
    Values,
    format_value,
    running_mean,
    smoothing_window,
)
from winnow.study import packaged_yaml
from winnow.study.measures import Axis
from winnow.study.report.panels import (
    FONT_SIZE,
    LINES,
    NOTES,
    SMALL,
    Drawing,
    EndLabel,
    FigureData,
    Frame,
    Panel,
    Style,
    captioned,
    describe_bands,
    label_ends,
    logarithmic_ticks,
    mark_cut_ends,
    show_whole_dots,
    style_scale,
)
from winnow.study.statistics import POSITIVE, SHARE, UNBOUNDED, Bounds
from winnow.study.study import Arm

AXIS_TITLES: dict[Axis, str] = {
    "iterations": "iteration",
    "sampled_tokens": "response tokens sampled",
    "trained_tokens": "response tokens trained on",
    "seconds": "seconds",
}
COSTS: dict[Axis, str] = {
    "iterations": "iterations",
    "sampled_tokens": "sampled tokens",
    "trained_tokens": "trained tokens",
    "seconds": "seconds",
}
ALL_WRONG, ALL_CORRECT = "train/groups/frac_all_wrong", "train/groups/frac_all_correct"
NAMED_REWARD = re.compile("train/reward/(.+)/mean")
"""Metric of a named reward; the weighted sum of all is `train/reward/mean`."""
FEW_ARMS = 3
"""Arms whose panels by outcome are as large as those of curves; with more they are small."""
DRAWN_POINTS = 110
"""A longer curve is drawn at this many evenly spaced points."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Metric as a figure shows it; the fields are explained in `figures.yaml`."""

    key: str
    title: str
    unit: str
    percent: bool = False
    from_zero: bool = False
    log: bool = False
    smooth: bool = True
    signed: bool = False
    zero_at_start: bool = False

    @property
    def bounds(self) -> Bounds:
        return SHARE if self.percent else UNBOUNDED if self.signed else POSITIVE

    def text(self, value: float) -> str:
        return format_value(value, self.percent)


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """Comparison that the paper draws. Of the arms `references` it shows the best point only."""

    name: str
    title: str
    caption: str
    arms: Sequence[str]
    metrics: Sequence[str]
    references: Sequence[str] = ()


_FIGURES = packaged_yaml("report/figures.yaml")
METRICS = {name: Metric(**entry) for name, entry in _FIGURES["metrics"].items()}
PAPER_FIGURES = tuple(PaperFigure(**entry) for entry in _FIGURES["paper_figures"])
OVERVIEW = tuple(METRICS[name] for name in _FIGURES["overview"])
GRADIENT_MASS = tuple(METRICS[name] for name in _FIGURES["gradient_mass"])
HELD_OUT, ENTROPY, KL = METRICS["held_out"], METRICS["entropy"], METRICS["kl"]


@dataclass(frozen=True, slots=True)
class Line:
    """Curve as drawn, after smoothing and thinning. `low` and `high` are None if it has no band."""

    style: Style
    x: Values
    y: Values
    low: Values | None
    high: Values | None


def arm_lines(data: FigureData, arms: Sequence[Arm], metric: Metric, x: Axis | None = None) -> list[Line]:
    """The lines of the arms that recorded the metric."""
    lines = []
    for arm in arms:
        curve = data.curve(arm, metric.key, x, metric.bounds)
        if not len(curve.x):
            continue
        window = smoothing_window(len(curve.x)) if metric.smooth else 1
        drawn = np.unique(np.linspace(0, len(curve.x) - 1, DRAWN_POINTS).round().astype(int))
        y, low, high = (
            None if values is None else running_mean(values, window)[drawn]
            for values in (curve.mean, curve.low, curve.high)
        )
        assert y is not None
        lines.append(_without_rounding(Line(data.styles[arm.label], curve.x[drawn], y, low, high), metric))
    return lines


def _without_rounding(line: Line, metric: Metric) -> Line:
    """The line of a metric that is 0 before the first update, without points whose height is rounding alone."""
    above = line.y > rounding_level(line.y)
    if not metric.zero_at_start or not above.any():
        return line
    low, high = (None if values is None else values[above] for values in (line.low, line.high))
    return Line(line.style, line.x[above], line.y[above], low, high)


def line_panels(
    data: FigureData,
    groups: Sequence[tuple[str, Sequence[Arm]]],
    metric: Metric,
    x: Axis | None = None,
    references: Sequence[Arm] = (),
) -> list[Panel]:
    """A panel for each group of arms that recorded the metric, all with the same scale, so that they can be compared.

    The best point of a reference's mean curve is drawn as a horizontal line.
    """
    by_group = [(name, lines) for name, arms in groups if (lines := arm_lines(data, arms, metric, x))]
    levels = [(line.style, float(line.y.max())) for line in arm_lines(data, references, metric, x)]
    limits = _line_limits([line for _, lines in by_group for line in lines], metric, [level for _, level in levels])
    return [
        Panel(
            f"{metric.title} · {name}" if name else metric.title,
            metric.unit,
            _lines_drawing(lines, metric, limits, x or data.x, levels),
        )
        for name, lines in by_group
    ]


def draw_lines(axes: Axes, lines: Sequence[Line], levels: Sequence[tuple[Style, float]] = ()) -> list[EndLabel]:
    """Draw curves, bands and horizontal levels, and return the labels for their ends."""
    for line in lines:
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=line.style.light, alpha=0.13, linewidth=0)
    for line in lines:
        look = {"color": line.style.light, "linestyle": line.style.linestyle, "solid_joinstyle": "round"}
        dots = {"marker": "o", "markersize": 3.2} if len(line.x) <= 12 else {}
        axes.plot(line.x, line.y, linewidth=1.7, **look, **dots)
    right = max(line.x[-1] for line in lines)
    for style, level in levels:
        axes.axhline(level, color=style.light, linewidth=1, linestyle=(0, (1, 2)))
    ends = [EndLabel(line.style.title, line.x[-1], line.y[-1], line.style.light) for line in lines]
    return ends + [EndLabel(f"{style.title}, best", right, level, style.light) for style, level in levels]


def _lines_drawing(
    lines: Sequence[Line], metric: Metric, limits: tuple[float, float], x: Axis, levels: Sequence[tuple[Style, float]]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        labels = draw_lines(axes, lines, levels)
        style_scale(axes, metric.text, AXIS_TITLES[x], whole=x != "seconds")
        left, right = min(line.x[0] for line in lines), max(line.x[-1] for line in lines)
        axes.set_xlim((left, right) if left < right else (left - 1, right + 1))
        axes.set_ylim(*limits)
        if metric.log and limits[0] > 0:
            axes.set(yscale="log", ylim=limits)
            logarithmic_ticks(axes.yaxis, limits, metric.text)
        for line in lines:
            mark_cut_ends(axes, _ends_of_band(line), line.style.light)
        show_whole_dots(axes)
        label_ends(axes, labels)

    return draw


def _ends_of_band(line: Line) -> list[tuple[float, float]]:
    """The lowest and the highest point of a line's band."""
    if line.low is None or line.high is None:
        return []
    lowest, highest = int(line.low.argmin()), int(line.high.argmax())
    return [(float(line.x[lowest]), float(line.low[lowest])), (float(line.x[highest]), float(line.high[highest]))]


def _line_limits(lines: Sequence[Line], metric: Metric, levels: Sequence[float]) -> tuple[float, float]:
    """Limits of the y axis that show all means and levels, and bands as far as half the means' range beyond the means.
    The band over two seeds can be so wide that the means would be flat lines on its scale."""
    if not lines:
        return 0.0, 1.0
    if metric.log and (log_limits := _log_limits(lines)):
        return log_limits
    means = np.concatenate([*(line.y for line in lines), np.array(levels, dtype=float)])
    low, high = float(means.min()), float(means.max())
    room = 0.5 * (high - low) or abs(high) or 1.0
    bands = [limit for line in lines for limit in (line.low, line.high) if limit is not None]
    if bands:
        ends = np.concatenate(bands)
        low, high = min(low, max(float(ends.min()), low - room)), max(high, min(float(ends.max()), high + room))
    margin = 0.04 * (high - low) or abs(high) / 2 or 1.0
    return (0.0 if metric.from_zero else low - margin), high + margin


def _log_limits(lines: Sequence[Line]) -> tuple[float, float] | None:
    """Limits of the means above 0; None if there are none."""
    means = np.concatenate([line.y for line in lines])
    means = means[means > 0]
    return (float(means.min()) / 1.4, 1.4 * float(means.max())) if len(means) else None


def rounding_level(values: Values) -> float:
    """Upper end of what may be rounding in a metric that is 0 before the first update: ten times its first value.

    The first value is no rounding, and the level 0, unless all others are a hundred times as large on average: it may
    be of a later iteration.
    """
    return 10 * float(values[0]) if len(values) > 1 and values[0] < 0.01 * values[1:].mean() else 0.0


def paper_figures(data: FigureData) -> Iterator[Drawing]:
    """The paper's figures of which the study has all arms."""
    for figure in PAPER_FIGURES:
        arms, references = data.arms(figure.arms), data.arms(figure.references)
        if len(arms) < len(figure.arms):
            continue
        panels = [
            panel
            for position, name in enumerate(figure.metrics)
            for panel in line_panels(data, [("", arms)], METRICS[name], None, () if position else references)
        ]
        notes = _notes(data, [METRICS[name] for name in figure.metrics])
        caption = " ".join([figure.caption, describe_bands(arms), *notes])
        if panels:
            yield Drawing(figure.name, figure.title, caption, tuple(panels))


def overview(data: FigureData) -> Drawing | None:
    """Six learning curves of every arm."""
    return _of_every_arm(data, "curves", OVERVIEW)


def named_rewards(data: FigureData) -> Drawing | None:
    """The mean of each named reward, for all names that a run of the study recorded; None if there are none."""
    keys = {key for arm in data.study.arms for run in arm.runs for row in run.rows for key in row}
    names = sorted(match[1] for key in keys if (match := NAMED_REWARD.fullmatch(key)))
    metrics = [
        Metric(f"train/reward/{name}/mean", name, "mean of all samples, before its weight", signed=True)
        for name in names
    ]
    return _of_every_arm(data, "rewards", metrics)


def gradient_mass(data: FigureData) -> Drawing | None:
    """Share of the samples that moves the policy, and in which direction."""
    return _of_every_arm(data, "signal", GRADIENT_MASS)


def _of_every_arm(data: FigureData, name: str, metrics: Sequence[Metric]) -> Drawing | None:
    shared = [NOTES["shared_scale"]] if len(data.families) > 1 else []
    panels = [panel for metric in metrics for panel in line_panels(data, data.families, metric)]
    return captioned(name, panels, [describe_bands(data.study.arms), *_notes(data, metrics), *shared], _columns(data))


def _notes(data: FigureData, metrics: Sequence[Metric]) -> list[str]:
    """Notes on the curves of these metrics: smoothing, of long enough runs, and a start above rounding."""
    return [
        *(_smoothing_note(data) if any(metric.smooth for metric in metrics) else []),
        *([NOTES["rounding"]] if any(metric.zero_at_start for metric in metrics) else []),
    ]


def _smoothing_note(data: FigureData) -> list[str]:
    points = max((run.iterations for arm in data.study.arms for run in arm.runs), default=0)
    return [NOTES["smoothed"]] if smoothing_window(points) > 1 else []


def budgets(data: FigureData) -> Drawing | None:
    """Held-out accuracy against each cost. The caption names costs that were not recorded."""
    by_cost = {
        cost: line_panels(data, data.families, replace(HELD_OUT, title=f"Accuracy over {cost}"), x)
        for x, cost in COSTS.items()
    }
    unknown = [cost for cost, panels in by_cost.items() if not panels]
    missing = [f"Not recorded: {', '.join(unknown)}."] if unknown else []
    panels = [panel for of_cost in by_cost.values() for panel in of_cost]
    return captioned("budgets", panels, [describe_bands(data.study.arms), *missing], _columns(data))


def _columns(data: FigureData) -> int:
    return len(data.families) if len(data.families) > 1 else 3


def prompts_by_outcome(data: FigureData) -> Drawing | None:
    """A small panel for each arm with the shares of prompts whose samples are all wrong, mixed and all correct."""
    frame = SMALL if len(data.study.arms) > FEW_ARMS else LINES
    panels = [panel for arm in data.study.arms if (panel := _prompts_panel(data, arm, frame))]
    return captioned("prompts", panels, _smoothing_note(data), most_columns=6 if frame == SMALL else 3)


def _prompts_panel(data: FigureData, arm: Arm, frame: Frame) -> Panel | None:
    wrong, correct = data.curve(arm, ALL_WRONG), data.curve(arm, ALL_CORRECT)
    if not len(wrong.x) or len(wrong.x) != len(correct.x):
        return None
    window = smoothing_window(len(wrong.x))
    below, above = running_mean(wrong.mean, window), 1 - running_mean(correct.mean, window)

    def draw(axes: Axes) -> None:
        for low, high, colour, alpha in ((0, below, BAD, 0.55), (below, above, MUTED, 0.25), (above, 1, GOOD, 0.55)):
            axes.fill_between(wrong.x, low, high, color=colour, alpha=alpha, linewidth=0)
        axes.set(xlim=(wrong.x[0], max(wrong.x[-1], wrong.x[0] + 1)), ylim=(0, 1))
        style_scale(axes, lambda value: f"{100 * value:.0f}%", AXIS_TITLES[data.x], bins=3, whole=data.x != "seconds")
        axes.set_yticks([0, 0.5, 1])
        axes.grid(False)
        bounds = {"all wrong": (0.0, below[-1], BAD), "mixed": (below[-1], above[-1], INK)}
        bounds["all correct"] = (above[-1], 1.0, GOOD)
        ends = {name: (f"{high - low:.0%} {name}", float(low + high) / 2, c) for name, (low, high, c) in bounds.items()}
        if frame == LINES:
            right = axes.get_xlim()[1]
            label_ends(axes, [EndLabel(text, right, middle, colour) for text, middle, colour in ends.values()])
            return
        # There is no room beside a small panel: the middle label alone, on ground that keeps it legible on any colour.
        text, middle, colour = ends["mixed"]
        place = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "color": colour}
        ground = {"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 1}
        axes.text(0.97, min(max(middle, 0.1), 0.9), text, fontsize=FONT_SIZE - 0.5, bbox=ground, **place)

    return Panel(data.styles[arm.label].title, "", draw, frame)
