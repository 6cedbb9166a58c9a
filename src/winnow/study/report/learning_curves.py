"""What curves show: the metric, and how its panel is titled and scaled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from winnow.study.arms import arm_title
from winnow.study.curves import ACCURACY, Axis
from winnow.study.report.panels import (
    BAD,
    FONT_SIZE,
    GOOD,
    INK,
    MUTED,
    SMALL,
    Drawing,
    EndLabel,
    Panel,
    Style,
    label_ends,
    logarithmic_ticks,
    style_scale,
)
from winnow.study.report.subject import FIGURE_4, StudyView, band_words
from winnow.study.study import Arm

AXIS_TITLES: dict[Axis, str] = {
    "iterations": "iteration",
    "sampled_tokens": "response tokens sampled",
    "trained_tokens": "response tokens trained on",
    "seconds": "seconds",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """`smooth` for figures of every iteration, which are drawn as a running mean; evaluations are drawn as they are.
    `log` for what is compared by ratios, in verdicts too.
    """

    key: str
    title: str
    unit: str
    percent: bool = False
    from_zero: bool = False
    log: bool = False
    smooth: bool = True

    def text(self, value: float) -> str:
        return f"{100 * value:.3g}%" if self.percent else f"{value:.3g}"


HELD_OUT = Metric(ACCURACY, "Held-out accuracy", "% of samples correct", percent=True, smooth=False)
REWARD = Metric("rollout/acc", "Training reward", "(1 + r) / 2: % of training samples correct", percent=True)
ENTROPY = Metric("train/entropy", "Entropy", "of the sampling distribution, nats a token; log scale", log=True)
KL = Metric("train/kl_ref", "KL to the initial model", "k3 estimate, nats a token; log scale", log=True)
LENGTH = Metric("rollout/length/mean", "Response length", "mean of all samples, tokens")
CLIPPED = Metric("train/clip_frac", "Clip fraction", "% of trained tokens", percent=True, from_zero=True)

POSITIVE = Metric("train/gradient_mass/positive", "Positive gradient mass", "Σ |∂objective / ∂log π|", from_zero=True)
NEGATIVE = Metric("train/gradient_mass/negative", "Negative gradient mass", "Σ |∂objective / ∂log π|", from_zero=True)
TRAINED = Metric(
    "train/gradient_mass/tokens_frac", "Trained share", "% of sampled tokens", percent=True, from_zero=True
)
EFFECTIVE = Metric(
    "train/gradient_mass/effective_rows", "Effective sample size", "rows an iteration, (Σ|w|)² / Σw²", from_zero=True
)
ALL_WRONG, ALL_CORRECT = "train/groups/frac_all_wrong", "train/groups/frac_all_correct"

OVERVIEW = (HELD_OUT, REWARD, ENTROPY, KL, LENGTH, CLIPPED)
GRADIENT_MASS = (POSITIVE, NEGATIVE, TRAINED, EFFECTIVE)

SMOOTHED_FROM, DRAWN_POINTS = 20, 110
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


def smoothing_window(points: int) -> int:
    """Points in the running mean: 1, which is none, up to MANY, then an odd tenth of them, at most 21."""
    return min(21, points // 20 * 2 + 1) if points > SMOOTHED_FROM else 1


def running_mean(values: Values, size: int) -> Values:
    """Centred, so that it does not lag. Narrower where it meets the start, which would else be drawn where it never was; at the
    end over what there is."""
    half = size // 2
    reach = [(i, min(i, half)) for i in range(len(values))]
    return np.array([values[i - back : i + back + 1].mean() for i, back in reach])


def arm_lines(subject: StudyView, arms: Sequence[Arm], metric: Metric, x: Axis | None = None) -> list[Line]:
    """The arms' curves, those without the metric left out."""
    drawn = []
    for arm in arms:
        curve = subject.curve(arm, metric.key, x)
        if not len(curve.x):
            continue
        size = smoothing_window(len(curve.x)) if metric.smooth else 1
        kept = np.unique(np.linspace(0, len(curve.x) - 1, DRAWN_POINTS).round().astype(int))
        y, low, high = (
            None if values is None else running_mean(values, size)[kept]
            for values in (curve.mean, curve.low, curve.high)
        )
        assert y is not None
        drawn.append(Line(subject.styles[arm.label], curve.x[kept], y, low, high))
    return drawn


def line_panels(
    subject: StudyView, parts: Sequence[tuple[str, Sequence[Arm]]], metric: Metric, x: Axis | None = None
) -> list[Panel]:
    """A panel for each part, all with one scale, so that parts can be compared. Parts where nothing was recorded are left out."""
    by_part = [(name, arm_lines(subject, arms, metric, x)) for name, arms in parts]
    limits = _line_limits([line for _, drawn in by_part for line in drawn], metric)
    return [
        Panel(
            f"{metric.title} · {name}" if name else metric.title,
            metric.unit,
            _lines_drawing(drawn, metric, limits, x or subject.x),
        )
        for name, drawn in by_part
        if drawn
    ]


def panels_with_references(
    subject: StudyView, arms: Sequence[Arm], others: Sequence[Arm], metric: Metric
) -> list[Panel]:
    """One panel; of `others` only the best point of their mean curve, as a level."""
    drawn = arm_lines(subject, arms, metric)
    levels = [(line.style, float(line.y.max())) for line in arm_lines(subject, others, metric)]
    if not drawn:
        return []
    limits = _line_limits(drawn, metric, [level for _, level in levels])
    return [Panel(metric.title, metric.unit, _lines_drawing(drawn, metric, limits, subject.x, levels))]


def draw_lines(axes: Axes, drawn: Sequence[Line], extra: Sequence[tuple[Style, float]] = ()) -> list[EndLabel]:
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
    ends = [EndLabel(line.style.title, line.x[-1], line.y[-1], line.style.light) for line in drawn]
    return ends + [EndLabel(f"{style.title}, best", right, level, style.light) for style, level in extra]


def _lines_drawing(
    drawn: Sequence[Line],
    metric: Metric,
    limits: tuple[float, float],
    x: Axis,
    levels: Sequence[tuple[Style, float]] = (),
):
    def on(axes: Axes) -> None:
        names = draw_lines(axes, drawn, levels)
        style_scale(axes, metric.text, AXIS_TITLES[x])
        left, right = min(line.x[0] for line in drawn), max(line.x[-1] for line in drawn)
        axes.set_xlim((left, right) if left < right else (left - 1, right + 1))
        axes.set_ylim(*limits)
        if metric.log and limits[0] > 0:
            axes.set(yscale="log", ylim=limits)
            logarithmic_ticks(axes.yaxis, limits, metric.text)
        label_ends(axes, names)

    return on


def _line_limits(drawn: Sequence[Line], metric: Metric, levels: Sequence[float] = ()) -> tuple[float, float]:
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


SMOOTHED = (
    " Figures of every iteration are running means (of an odd tenth of the points, 21 at most), their bands likewise."
)


COSTS: dict[Axis, str] = {
    "iterations": "iterations",
    "sampled_tokens": "tokens sampled",
    "trained_tokens": "tokens trained on",
    "seconds": "seconds",
}


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """A comparison of the paper. `levels` are arms of which it shows the best point only."""

    name: str
    title: str
    caption: str
    labels: Sequence[str]
    metrics: Sequence[Metric]
    levels: Sequence[str] = ()


PAPER_FIGURES = (
    PaperFigure(
        "figure1",
        "Figure 1: RAFT and RAFT++",
        "Dotted: the best point of other arms' mean curves, as in the paper.",
        ("raft", "raftpp"),
        (HELD_OUT, REWARD, LENGTH),
        ("grpo", "ppo", "dpo"),
    ),
    PaperFigure(
        "figure2",
        "Figure 2: does clipping matter?",
        "RAFT++ without its clip, and with a higher upper bound (0.28 instead of 0.2), between RAFT and GRPO.",
        ("raft", "raftpp", "raftpp_no_clip", "raftpp_clip_higher", "grpo"),
        (REWARD, HELD_OUT, ENTROPY, CLIPPED),
    ),
    PaperFigure(
        "figure3",
        "Figure 3: right answers alone, or wrong ones too",
        "RAFT++ learns from right answers alone, GRPO from wrong ones too.",
        ("raftpp", "grpo"),
        (HELD_OUT, KL, ENTROPY),
    ),
    PaperFigure(
        "figure4",
        "Figure 4: what makes Reinforce into GRPO",
        "Reinforce-Rej is the paper's “remove both”.",
        FIGURE_4,
        (REWARD, KL, ENTROPY, HELD_OUT),
    ),
)


def paper_figures(subject: StudyView) -> Iterator[Drawing]:
    """Those of which two arms or more are there."""
    for figure in PAPER_FIGURES:
        arms, others = subject.present(figure.labels), subject.present(figure.levels)
        if len(arms) < 2:
            continue
        first, *rest = figure.metrics
        drawn = (
            panels_with_references(subject, arms, others, first)
            if others
            else line_panels(subject, [("", arms)], first)
        )
        drawn += [panel for metric in rest for panel in line_panels(subject, [("", arms)], metric)]
        absent = [label for label in figure.labels if subject.study.arm(label) is None]
        missing = f" Not in this study: {', '.join(map(arm_title, absent))}." if absent else ""
        if drawn:
            yield Drawing(
                figure.name, figure.title, f"{figure.caption} {band_words(arms)}{SMOOTHED}{missing}", tuple(drawn)
            )


def overview(subject: StudyView) -> Drawing | None:
    """The six curves that tell how training went, of every arm."""
    parts = subject.families
    drawn = tuple(panel for metric in OVERVIEW for panel in line_panels(subject, parts, metric))
    caption = band_words(subject.study.arms) + SMOOTHED
    if len(parts) > 1:
        caption += " Panels of one title share their scale."
    return Drawing("curves", "Learning curves of every arm", caption, drawn, _columns(parts)) if drawn else None


def budgets(subject: StudyView) -> Drawing | None:
    """Held-out accuracy against each cost. A cost that was not recorded has no panel, and is named."""
    parts = subject.families
    by_cost = {cost: _against(subject, x) for x, cost in COSTS.items()}
    drawn = tuple(panel for panels_of in by_cost.values() for panel in panels_of)
    unknown = [cost for cost, panels_of in by_cost.items() if not panels_of]
    caption = (
        "The same accuracies at equal cost, of four kinds: an arm that trains on fewer tokens is further left at the same "
        "iteration. Over all but iterations runs are interpolated, over the range that an arm's seeds share. "
        f"{band_words(subject.study.arms)}"
    )
    if unknown:
        caption += f" Not recorded: {', '.join(unknown)}."
    return Drawing("budgets", "Accuracy at equal budgets", caption, drawn, _columns(parts)) if drawn else None


def gradient_mass(subject: StudyView) -> Drawing | None:
    """How much of what was sampled moved the policy, and which way."""
    parts = subject.families
    drawn = tuple(panel for metric in GRADIENT_MASS for panel in line_panels(subject, parts, metric))
    caption = (
        "Gradient mass is the sum over an update's tokens of |∂objective / ∂log π|, from rows with positive and with negative "
        "advantage (chosen and rejected responses of DPO); the trained share is that of sampled tokens whose gradient is not "
        f"zero; the effective sample size is Kish's. {band_words(subject.study.arms)}{SMOOTHED}"
    )
    return Drawing("signal", "Where the gradient comes from", caption, drawn, _columns(parts)) if drawn else None


def _against(subject: StudyView, x: Axis) -> list[Panel]:
    return line_panels(subject, subject.families, replace(HELD_OUT, title=f"Accuracy over {COSTS[x]}"), x)


def _columns(parts: Sequence) -> int:
    return len(parts) if len(parts) > 1 else 3


def prompts_by_outcome(subject: StudyView) -> Drawing | None:
    """A small panel an arm; None where shares of prompts were not recorded."""
    panels = [panel for arm in subject.study.arms if (panel := _prompts_panel(subject, arm))]
    caption = (
        "Share of each iteration's prompts whose samples are all wrong (orange, below), mixed (grey) or all correct (blue, "
        "above), mean over seeds, running mean, no band. Only mixed prompts tell right from wrong; whether the others move the "
        "policy is what filters and baselines decide."
    )
    return Drawing("prompts", "Which prompts have a signal", caption, tuple(panels), columns=5) if panels else None


def _prompts_panel(subject: StudyView, arm: Arm) -> Panel | None:
    wrong, correct = subject.curve(arm, ALL_WRONG), subject.curve(arm, ALL_CORRECT)
    if not len(wrong.x) or len(wrong.x) != len(correct.x):
        return None
    size = smoothing_window(len(wrong.x))
    below, above = running_mean(wrong.mean, size), 1 - running_mean(correct.mean, size)

    def draw(axes: Axes) -> None:
        axes.fill_between(wrong.x, 0, below, color=BAD, alpha=0.55, linewidth=0)
        axes.fill_between(wrong.x, below, above, color=MUTED, alpha=0.25, linewidth=0)
        axes.fill_between(wrong.x, above, 1, color=GOOD, alpha=0.55, linewidth=0)
        axes.set(xlim=(wrong.x[0], max(wrong.x[-1], wrong.x[0] + 1)), ylim=(0, 1))
        style_scale(axes, lambda value: f"{100 * value:.0f}%", AXIS_TITLES[subject.x], bins=3)
        axes.set_yticks([0, 0.5, 1])
        axes.grid(False)
        at = (float(below[-1]) + float(above[-1])) / 2
        axes.text(
            0.97, at, f"{above[-1] - below[-1]:.0%} mixed", transform=axes.get_yaxis_transform(), ha="right", va="center",
            fontsize=FONT_SIZE - 0.5, color=INK,
        )  # fmt: skip

    return Panel(subject.styles[arm.label].title, "", draw, SMALL)
