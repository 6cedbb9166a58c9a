"""Forest plots: rows with a name, a mark with its interval, and the figures in words. Final accuracy of every arm, and
chains of arms that differ by one change each."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from winnow.run_logs.plot_style import BAD, GOOD, INK, MUTED, PAPER
from winnow.study import packaged_yaml
from winnow.study.arms import arm_title
from winnow.study.differences import baseline
from winnow.study.measures import FINAL_ACCURACY, Measure, format_signed
from winnow.study.report.panels import (
    FONT_SIZE,
    NOTES,
    Drawing,
    FigureData,
    Frame,
    Panel,
    Style,
    captioned,
    label_x,
    mark_cut_ends,
    size_in_points,
    text_width,
)
from winnow.study.statistics import Difference, Estimate, NoInterval, paired_difference
from winnow.study.study import Arm

CHAINS: dict[str, dict[str, str]] = packaged_yaml("report/figures.yaml")["chains"]


@dataclass(frozen=True, slots=True)
class ForestRow:
    """Mean with its 95 % limits, None if there are none. `dots` are single seeds; `start` is where a bar begins."""

    name: str
    colour: str
    mean: float
    limits: tuple[float, float] | None
    text: str
    dots: Sequence[float] = ()
    start: float | None = None


def draw_rows(axes: Axes, rows: Sequence[ForestRow], unit: str, zero: bool = False) -> None:
    """Draw rows over an axis labelled `unit`; `zero`, for differences, adds a line at 0."""
    text = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": FONT_SIZE, "clip_on": False}
    width = size_in_points(axes)[0]
    for height, row in enumerate(rows):
        _draw_row(axes, row, height)
        axes.text(-6 / width, height, row.name, ha="right", color=INK, parse_math=False, **text)
        axes.text(1 + 8 / width, height, row.text, ha="left", color=MUTED, parse_math=False, **text)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlim(*_row_limits(rows, zero))
    for height, row in enumerate(rows):
        mark_cut_ends(axes, [(limit, height) for limit in row.limits or ()], row.colour)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    label_x(axes, unit)
    if zero:
        axes.axvline(0, color=MUTED, linewidth=1)


def _draw_row(axes: Axes, row: ForestRow, height: int) -> None:
    if row.start is not None:
        axes.barh(height, row.mean - row.start, left=row.start, height=0.5, color=row.colour, alpha=0.3, linewidth=0)
    for dot in row.dots if len(row.dots) > 1 else ():
        axes.plot([dot], [height + 0.24], color=row.colour, marker="o", markersize=2.6, alpha=0.55, linestyle="")
    if row.limits:
        axes.plot(row.limits, [height, height], color=row.colour, linewidth=1.8, solid_capstyle="butt")
    face = row.colour if row.limits else PAPER  # a hollow mark tells a missing interval from a short one
    mark = {"marker": "o", "markersize": 5.5, "markerfacecolor": face, "markeredgewidth": 1.4}
    axes.plot([row.mean], [height], color=row.colour, **mark)


def _row_limits(rows: Sequence[ForestRow], zero: bool) -> tuple[float, float]:
    """Limits of the x axis that show all means and dots, and of the intervals at most as much again on each side.

    Accuracies lie between 0 and 100 %, so that no other limits are shown; with `zero`, differences lie around 0."""
    points = [x for row in rows for x in (row.mean, *row.dots, *([row.start] if row.start is not None else []))]
    points += [0.0] if zero else []
    low, high = min(points), max(points)
    room = (high - low) or abs(high) or 1.0
    ends = [end for row in rows if row.limits for end in row.limits]
    low = min([low, *(max(end, low - room) for end in ends)])
    high = max([high, *(min(end, high + room) for end in ends)])
    margin = 0.06 * (high - low) or 0.5
    return (low - margin, high + margin) if zero else (max(low - margin, -2.0), min(high + margin, 102.0))


def forest(data: FigureData) -> Drawing | None:
    """Final accuracy of every arm, and its paired difference to the baseline.

    None if fewer than two runs were evaluated at their end.
    """
    arms = [arm for arm in data.study.arms if FINAL_ACCURACY.by_seed(arm)]
    if sum(len(arm.runs) for arm in arms) < 2:
        return None
    levels = [level_row(data, arm, FINAL_ACCURACY) for arm in arms]
    unit = "mean of the seeds, 95 % interval; small dots: seeds"
    panels = [_forest_panel("Final accuracy", unit, _by_mean(levels), "% of samples correct")]
    notes = [NOTES["final"], *([NOTES["cut"]] if any(row.limits for row in levels) else [])]
    notes += [] if all(row.limits for row in levels) else [NOTES["hollow"]]
    base = baseline(arms)
    gaps = [row for arm in arms if arm is not base and (row := difference_row(data, base, arm, FINAL_ACCURACY))]
    if gaps:
        name = data.styles[base.label].title
        scale = f"points; 0: as {name}"
        unit = "points of final accuracy, paired by seed"
        panels.append(_forest_panel(f"Difference to {name}", unit, _by_mean(gaps), scale, zero=True))
        notes.append(NOTES["differences"].format(base=base.title))
    return captioned("final_accuracy", panels, notes, most_columns=2)


def level_row(data: FigureData, arm: Arm, measure: Measure) -> ForestRow:
    """The arm's mean of a measure, with a dot for each of its seeds."""
    values = list(measure.by_seed(arm).values())
    return _row(data.styles[arm.label], values, lambda: measure.over_seeds(arm), "{:.1f}".format)


def difference_row(data: FigureData, base: Arm, arm: Arm, measure: Measure) -> ForestRow | None:
    """The mean of `arm` − `base`, paired by seed; None without a common seed."""
    a, b = measure.by_seed(base), measure.by_seed(arm)
    gaps = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
    return (
        _row(data.styles[arm.label], gaps, lambda: paired_difference(a, b, measure.bounds), format_signed)
        if gaps
        else None
    )


def _row(
    style: Style,
    values: Sequence[float],
    estimate: Callable[[], Estimate | Difference],
    number: Callable[[float], str],
) -> ForestRow:
    """The row of an estimate; without an interval, of the mean of the values with the reason: `80.0 (one run)`."""
    try:
        found = estimate()
    except NoInterval as reason:
        why, mean = str(reason).split(":")[0], fmean(values)
        text = f"{number(mean)} ({'one run' if why == 'fewer than two runs' else why})"
        return ForestRow(style.title, style.light, mean, None, text, values)
    text = f"{number(found.mean)} {format_interval(found.low, found.high)}"
    return ForestRow(style.title, style.light, found.mean, (found.low, found.high), text, values)


def format_interval(low: float, high: float) -> str:
    """`(−0.3 to 1.2)`, because a dash between the limits would look like a minus sign."""
    return f"({low:.1f} to {high:.1f})".replace("-", "−")


def _by_mean(rows: Sequence[ForestRow]) -> list[ForestRow]:
    return sorted(rows, key=lambda row: -row.mean)


def _forest_panel(title: str, unit: str, rows: Sequence[ForestRow], scale: str, zero: bool = False) -> Panel:
    # Wider than usual for what is longer than usual, such as (−100.0 to 100.0).
    left = max(1.45, *(text_width(row.name) + 0.15 for row in rows))
    right = max(1.5, *(text_width(row.text) + 0.15 for row in rows))
    frame = Frame(2.05 + left + right, 1.0 + 0.27 * len(rows), left, right)
    return Panel(title, unit, lambda axes: draw_rows(axes, rows, scale, zero), frame)


def waterfall(data: FigureData) -> Drawing | None:
    """A panel for each chain of which the study has three arms or more; None if there is no such chain. The one step
    between two arms is what `forest` shows."""
    chains = [(title, changes, _measured_arms(data, changes)) for title, changes in CHAINS.items()]
    drawn = [(title, changes, arms) for title, changes, arms in chains if len(arms) > 2]
    panels = [_waterfall_panel(data, title, changes, arms) for title, changes, arms in drawn]
    missing = [
        arm_title(label) for _, changes, arms in drawn for label in changes if label not in {arm.label for arm in arms}
    ]
    combined = f"Not in this study, so that their steps are combined with the next one: {', '.join(missing)}."
    return captioned("waterfall", panels, [NOTES["cut"], *([combined] if missing else [])], most_columns=2)


def _measured_arms(data: FigureData, labels: Mapping[str, str]) -> list[Arm]:
    return [arm for arm in data.arms(labels) if FINAL_ACCURACY.by_seed(arm)]


def _waterfall_panel(data: FigureData, title: str, changes: Mapping[str, str], arms: Sequence[Arm]) -> Panel:
    rows = [level_row(data, arms[0], FINAL_ACCURACY)]
    reached = rows[0].mean
    neighbours = set(itertools.pairwise(changes))
    for before, after in itertools.pairwise(arms):
        step = difference_row(data, before, after, FINAL_ACCURACY)
        if step is None:
            continue
        # A step across a missing arm is more than one change, and is named by the arm that it leads to.
        name = changes[after.label] if (before.label, after.label) in neighbours else f"→ {step.name}"
        rows.append(_step_row(step, reached, name))
        reached += step.mean
    return _forest_panel(title, "final accuracy, %", rows, "% of samples correct")


def _step_row(step: ForestRow, start: float, name: str) -> ForestRow:
    limits = step.limits and (start + step.limits[0], start + step.limits[1])
    colour = GOOD if step.mean >= 0 else BAD
    return replace(step, name=name, colour=colour, mean=start + step.mean, limits=limits, dots=(), start=start)
