"""Panels of labelled rows: a name at the left, a mark with its interval, and what it says in figures at the right."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from winnow.study.arms import arm_title as title_of
from winnow.study.measures import FINAL_ACCURACY, Measure
from winnow.study.report.facts import interval_words, signed
from winnow.study.report.panels import BAD, FONT_SIZE, GOOD, INK, MUTED, PAPER, Drawing, Panel, rows_frame
from winnow.study.report.subject import StudyView
from winnow.study.statistics import NoInterval, over_seeds, paired_difference
from winnow.study.study import Arm


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A mean with its 95 % limits, None where there are none; `dots` are single seeds; `start` is where a bar to it begins."""

    name: str
    colour: str
    mean: float
    limits: tuple[float, float] | None
    words: str
    dots: Sequence[float] = ()
    start: float | None = None


def draw_rows(axes: Axes, rows: Sequence[ForestRow], unit: str, zero: bool = False) -> None:
    """`unit` names the axis; with `zero`, for differences, there is a line at 0."""
    for height, row in enumerate(rows):
        _draw_row(axes, row, height)
        axes.text(
            -6 / _axes_width(axes),
            height,
            row.name,
            transform=axes.get_yaxis_transform(),
            ha="right",
            **_text_style(INK),
        )
        axes.text(
            1 + 8 / _axes_width(axes),
            height,
            row.words,
            transform=axes.get_yaxis_transform(),
            ha="left",
            **_text_style(MUTED),
        )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlim(*_row_limits(rows, zero))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_xlabel(unit, fontsize=FONT_SIZE, color=MUTED, labelpad=2, parse_math=False)
    if zero:
        axes.axvline(0, color=MUTED, linewidth=1)


def _draw_row(axes: Axes, row: ForestRow, height: int) -> None:
    if row.start is not None:
        axes.barh(height, row.mean - row.start, left=row.start, height=0.5, color=row.colour, alpha=0.3, linewidth=0)
    for dot in row.dots if len(row.dots) > 1 else ():
        axes.plot([dot], [height + 0.24], color=row.colour, marker="o", markersize=2.6, alpha=0.55, linestyle="")
    if row.limits:
        axes.plot(row.limits, [height, height], color=row.colour, linewidth=1.8, solid_capstyle="butt")
    face = row.colour if row.limits else PAPER  # hollow: there is no interval, which is not the same as a short one
    axes.plot(
        [row.mean], [height], color=row.colour, marker="o", markersize=5.5, markerfacecolor=face, markeredgewidth=1.4
    )


def _row_limits(rows: Sequence[ForestRow], zero: bool) -> tuple[float, float]:
    """Everything but the far ends of intervals that are wider than twice what the means and dots span."""
    points = [x for row in rows for x in (row.mean, *row.dots, *([row.start] if row.start is not None else []))]
    points += [0.0] if zero else []
    low, high = min(points), max(points)
    room = (high - low) or abs(high) or 1.0
    ends = [end for row in rows if row.limits for end in row.limits]
    low = min([low, *(max(end, low - room) for end in ends)])
    high = max([high, *(min(end, high + room) for end in ends)])
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _text_style(colour: str) -> dict:
    return {"va": "center", "fontsize": FONT_SIZE, "color": colour, "clip_on": False, "parse_math": False}


def _axes_width(axes: Axes) -> float:
    """Of the axes, in points."""
    return 72 * axes.get_window_extent().width / axes.figure.dpi  # pyright: ignore[reportOptionalMemberAccess]


BASELINES = ("reinforce", "raft", "grpo")
"""What others are compared with: the first of these in the study, else the arm with the most seeds."""


def forest(subject: StudyView) -> Drawing | None:
    """Final accuracy of every arm, and its paired difference to the baseline; None where fewer than two runs were evaluated
    at their end."""
    arms = [arm for arm in subject.study.arms if FINAL_ACCURACY.by_seed(arm)]
    if sum(len(arm.runs) for arm in arms) < 2:
        return None
    levels = sorted((level_row(subject, arm, FINAL_ACCURACY) for arm in arms), key=lambda row: -row.mean)
    panels = [
        Panel(
            "Final accuracy",
            "mean of the seeds, 95 % interval; small dots: seeds",
            _rows_drawing(levels),
            rows_frame(len(levels)),
        )
    ]
    caption = "" if all(row.limits for row in levels) else "Hollow: no interval, for the reason given. "
    base = baseline(arms)
    if others := [arm for arm in arms if arm is not base]:
        gaps = [difference_row(subject, base, arm, FINAL_ACCURACY) for arm in others]
        shown = sorted((row for row in gaps if row), key=lambda row: -row.mean)
        if shown:
            name = subject.styles[base.label].title
            panels.append(
                Panel(
                    f"Difference to {name}",
                    "points of accuracy, paired by seed",
                    _rows_drawing(shown, name),
                    rows_frame(len(shown)),
                )
            )
        caption += (
            f"Second panel: each arm less {base.title}, seed by seed, so that what a seed brings to both cancels; an interval that "
            "crosses 0 is inside noise. These intervals are not corrected for their number."
        )
    return Drawing("final_accuracy", "Final accuracy", caption, tuple(panels), columns=2)


def baseline(arms: list[Arm]) -> Arm:
    by_label = {arm.label: arm for arm in arms}
    named = [by_label[label] for label in BASELINES if label in by_label]
    return named[0] if named else max(arms, key=lambda arm: len(arm.runs))


def level_row(subject: StudyView, arm: Arm, measure: Measure) -> ForestRow:
    """The arm's mean of a measure with each of its seeds."""
    style, values = subject.styles[arm.label], list(measure.by_seed(arm).values())
    try:
        estimate = over_seeds(values)
    except NoInterval as refused:
        mean = sum(values) / len(values)
        return ForestRow(style.title, style.light, mean, None, f"{mean:.1f} {short_reason(refused)}", values)
    words = f"{estimate.mean:.1f} {interval_words(estimate.low, estimate.high)}"
    return ForestRow(style.title, style.light, estimate.mean, (estimate.low, estimate.high), words, values)


def difference_row(subject: StudyView, base: Arm, arm: Arm, measure: Measure) -> ForestRow | None:
    """What `arm` has more than `base`; None without a common seed."""
    style, a, b = subject.styles[arm.label], measure.by_seed(base), measure.by_seed(arm)
    gaps = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
    if not gaps:
        return None
    try:
        found = paired_difference(a, b)
    except NoInterval as refused:
        mean = sum(gaps) / len(gaps)
        return ForestRow(style.title, style.light, mean, None, f"{signed(mean)} {short_reason(refused)}", gaps)
    words = f"{signed(found.mean)} {interval_words(found.low, found.high)}"
    return ForestRow(style.title, style.light, found.mean, (found.low, found.high), words, gaps)


def short_reason(refused: NoInterval) -> str:
    """`(one run)`: why there is no interval, as short as fits beside a mark."""
    words = str(refused).split(":")[0]
    return f"({'one run' if words == 'fewer than two runs' else words})"


def _rows_drawing(rows: list[ForestRow], base: str = ""):
    unit = f"points; 0: as {base}" if base else "% of samples correct"
    return lambda axes: draw_rows(axes, rows, unit, zero=bool(base))


CHAINS = (
    ("From Reinforce to GRPO", ("reinforce", "remove_all_wrong", "reinforce_rej", "mean_zero", "grpo")),
    ("From RAFT to RAFT++ and beyond", ("raft", "raftpp_no_clip", "raftpp", "raftpp_clip_higher")),
)
STEPS = {
    ("reinforce", "remove_all_wrong"): "− all-wrong prompts",
    ("remove_all_wrong", "reinforce_rej"): "− all-correct prompts",
    ("reinforce_rej", "mean_zero"): "+ centre each prompt",
    ("mean_zero", "grpo"): "+ divide by std",
    ("raft", "raftpp_no_clip"): "+ importance ratio",
    ("raftpp_no_clip", "raftpp"): "+ clipping",
    ("raftpp", "raftpp_clip_higher"): "+ higher upper clip",
}
"""What changes in a step of one knob."""


def waterfall(subject: StudyView) -> Drawing | None:
    """A panel for each chain of which two arms or more are there; None where there is none."""
    chains = [(title, labels, _measured_arms(subject, labels)) for title, labels in CHAINS]
    drawn = [(title, labels, arms) for title, labels, arms in chains if len(arms) > 1]
    if not drawn:
        return None
    panels = [_waterfall_panel(subject, title, arms) for title, _, arms in drawn]
    missing = [label for _, labels, arms in drawn for label in labels if label not in {arm.label for arm in arms}]
    caption = (
        "Each bar is what one change does to the final accuracy, from where the change before it ended; whisker: 95 % interval "
        "of that step, paired by seed. Blue up, orange down. Removing prompts whose samples are all right or all wrong is what "
        "centring does to them too, so the step after it changes mixed prompts only."
    )
    if missing:
        caption += (
            f" Not in this study, so their steps are taken together with the next: {', '.join(map(title_of, missing))}."
        )
    return Drawing("waterfall", "One knob at a time", caption, tuple(panels), columns=2)


def _measured_arms(subject: StudyView, labels: Sequence[str]) -> list[Arm]:
    return [arm for arm in subject.present(labels) if FINAL_ACCURACY.by_seed(arm)]


def _waterfall_panel(subject: StudyView, title: str, arms: Sequence[Arm]) -> Panel:
    rows = [level_row(subject, arms[0], FINAL_ACCURACY)]
    at = rows[0].mean
    for before, after in itertools.pairwise(arms):
        step = difference_row(subject, before, after, FINAL_ACCURACY)
        if step is None:
            continue
        rows.append(_step_row(step, at, STEPS.get((before.label, after.label), f"→ {step.name}")))
        at += step.mean
    return Panel(
        title, "final accuracy, %", lambda axes: draw_rows(axes, rows, "% of samples correct"), rows_frame(len(rows))
    )


def _step_row(step: ForestRow, at: float, name: str) -> ForestRow:
    limits = step.limits and (at + step.limits[0], at + step.limits[1])
    colour = GOOD if step.mean >= 0 else BAD
    return replace(step, name=name, colour=colour, mean=at + step.mean, limits=limits, dots=(), start=at)
