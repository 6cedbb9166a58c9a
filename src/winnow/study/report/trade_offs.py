"""Trade-offs of a report: accuracy against KL, pass@k, and late accuracy against a tuned setting."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from winnow.evaluation.intervals import pass_at_k, powers_of_two
from winnow.run_logs.plot_style import MUTED, Values
from winnow.run_logs.run_files import EvaluationCounts
from winnow.study.measures import FINAL_ACCURACY, LATE_ACCURACY, LATE_KL
from winnow.study.report.learning_curves import HELD_OUT, KL, Line, draw_lines, rounding_level
from winnow.study.report.panels import (
    NOTES,
    Drawing,
    EndLabel,
    FigureData,
    Panel,
    Style,
    arm_styles,
    captioned,
    describe_bands,
    label_ends,
    logarithmic_ticks,
    mark_cut_ends,
    show_whole_dots,
    style_scale,
    value_ticks,
)
from winnow.study.runs import StudyRun
from winnow.study.statistics import SHARE, limits_over_seeds
from winnow.study.study import Arm
from winnow.study.tuning import tune, tuned_setting

BEFORE_TRAINING = Style("", "before training", MUTED, MUTED, (1, 1.5))


class KlPath(NamedTuple):
    """Path of an arm: mean KL to the initial model, and held-out accuracy, at each evaluation."""

    style: Style
    kl: Values
    accuracy: Values


def accuracy_against_kl(data: FigureData) -> Drawing | None:
    """Mean held-out accuracy against mean KL to the initial model over the evaluations, with each arm's end."""
    panels = [panel for name, arms in data.families if (panel := _kl_panel(data, name, arms))]
    crossed = any(_cross_ends(arm) for arm in data.study.arms)
    cross = [NOTES["cross"], NOTES["cut"]] if crossed else ["No cross: no arm has two runs that differ."]
    return captioned("accuracy_kl", panels, cross, most_columns=2)


def kl_path(data: FigureData, arm: Arm) -> KlPath | None:
    """Accuracy at each evaluation, and the mean KL since the previous one, without those whose KL is rounding. None if
    there are fewer than two such evaluations after iteration 0, no final figures, or a late KL of 0, which has no place
    on a logarithmic axis."""
    if not (FINAL_ACCURACY.by_seed(arm) and any(LATE_KL.by_seed(arm).values())):
        return None
    accuracy, kl = data.curve(arm, HELD_OUT.key, "iterations"), data.curve(arm, KL.key, "iterations")
    spans = [(kl.x > before) & (kl.x <= now) for before, now in pairwise(accuracy.x)]
    points = [(kl.mean[span].mean(), y) for span, y in zip(spans, accuracy.mean[1:], strict=True) if span.any()]
    rounding = rounding_level(kl.mean)
    points = [(x, y) for x, y in points if x > rounding]
    if len(points) < 2:
        return None
    return KlPath(data.styles[arm.label], *np.array(points).T)


def _kl_panel(data: FigureData, name: str, arms: Sequence[Arm]) -> Panel | None:
    shown = [(arm, path) for arm in arms if (path := kl_path(data, arm))]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for _, path in shown:
            look = {"color": path.style.light, "linestyle": path.style.linestyle}
            axes.plot(path.kl, path.accuracy, linewidth=1.2, alpha=0.6, **look)
        ends = [_kl_end(path.style, arm) for arm, path in shown]
        for end in ends:
            axes.plot([end.x], [end.y], color=end.colour, marker="o", markersize=5, linestyle="")
        axes.autoscale_view()
        low, high = axes.get_ylim()
        for end, (arm, _) in zip(ends, shown, strict=True):
            _draw_cross(axes, arm, end)
        # The intervals of few seeds may be huge. The lines set the scale, and the crosses may leave the panel.
        axes.set_ylim(low, high + 0.05 * (high - low))
        style_scale(axes, HELD_OUT.text, "KL to the initial model, nats a token")
        moved = np.concatenate([*(path.kl for _, path in shown), [end.x for end in ends]])
        limits = 0.8 * float(moved.min()), 1.25 * float(moved.max())
        axes.set(xscale="log", xlim=limits)
        logarithmic_ticks(axes.xaxis, limits, KL.text)
        for end, (arm, _) in zip(ends, shown, strict=True):
            mark_cut_ends(axes, _cross_ends(arm), end.colour)
        label_ends(axes, ends)

    return Panel(f"Accuracy against KL · {name}" if name else "Accuracy against KL", HELD_OUT.unit, draw)


def _kl_end(style: Style, arm: Arm) -> EndLabel:
    return EndLabel(style.title, *_kl_place(arm), style.light)


def _kl_place(arm: Arm) -> tuple[float, float]:
    """KL and accuracy of the arm's end."""
    return fmean(LATE_KL.by_seed(arm).values()), fmean(FINAL_ACCURACY.by_seed(arm).values()) / 100


def _cross_ends(arm: Arm) -> list[tuple[float, float]]:
    """Ends of the 95 % intervals of late KL and of final accuracy; empty if one has none."""
    accuracy, kl = FINAL_ACCURACY.limits(arm), LATE_KL.limits(arm)
    if not (accuracy and kl):
        return []
    x, y = _kl_place(arm)
    return [*((end, y) for end in kl), *((x, end / 100) for end in accuracy)]


def _draw_cross(axes: Axes, arm: Arm, end: EndLabel) -> None:
    ends = _cross_ends(arm)
    for bar in (ends[:2], ends[2:]):
        axes.plot([x for x, _ in bar], [y for _, y in bar], color=end.colour, linewidth=0.9, alpha=0.7)


def pass_curves(data: FigureData) -> Drawing | None:
    """pass@k of every arm; None if no evaluation with two samples or more recorded its counts."""
    runs = [run for arm in data.study.arms for run in arm.runs]
    base = _pass_line(BEFORE_TRAINING, [_pass_rates_at(run, 0) for run in runs], band=False)
    panels = [
        Panel(
            f"pass@k · {name}" if name else "pass@k",
            "% of prompts with one of k samples correct",
            _lines_over_values([*lines, *([base] if base else [])], HELD_OUT.text, "k", 2),
        )
        for name, arms in data.families
        if (lines := [line for arm in arms if (line := _pass_line(data.styles[arm.label], pass_rates(arm)))])
    ]
    return captioned("pass_at_k", panels, [describe_bands(data.study.arms)], most_columns=2)


def pass_rates(arm: Arm) -> list[dict[int, float]]:
    """pass@k by k at the last evaluation, as the mean over evaluation sets, for each run that recorded its counts."""
    runs = (run for run in arm.runs if run.evaluations)
    return [_pass_rates_at(run, max(counts.iteration for counts in run.evaluations)) for run in runs]


def pass_rate(counts: EvaluationCounts, k: int) -> float:
    """pass@k of an evaluation, estimated from the number of correct samples of each prompt."""
    correct = np.arange(counts.samples) < np.array(counts.correct)[:, None]
    return pass_at_k(correct, k).estimate


def _pass_rates_at(run: StudyRun, iteration: int) -> dict[int, float]:
    sets = [counts for counts in run.evaluations if counts.iteration == iteration]
    samples = min((counts.samples for counts in sets), default=0)
    return {k: fmean(pass_rate(counts, k) for counts in sets) for k in powers_of_two(samples)} if samples > 1 else {}


def _pass_line(style: Style, rates: Sequence[dict[int, float]], band: bool = True) -> Line | None:
    """Mean of the runs' rates at the values of k that all runs have."""
    rates = [run_rates for run_rates in rates if run_rates]
    ks = sorted(set.intersection(*map(set, rates))) if rates else []
    if not ks:
        return None
    values = [[run_rates[k] for run_rates in rates] for k in ks]
    limits = [limits_over_seeds(of_k, SHARE) if band else None for of_k in values]
    low = high = None
    if any(limits):  # where all runs have the same rate, such as 100 %, the limits equal it, as in learning curves
        low, high = np.array([limit or (of_k[0], of_k[0]) for limit, of_k in zip(limits, values, strict=True)]).T
    return Line(style, np.array(ks, dtype=float), np.array([fmean(of_k) for of_k in values]), low, high)


def _lines_over_values(
    lines: Sequence[Line], text: Callable[[float], str], xlabel: str, base: float, bottom: float | None = None
) -> Callable[[Axes], None]:
    """Lines over a logarithmic axis with ticks at the lines' own points."""

    def draw(axes: Axes) -> None:
        labels = draw_lines(axes, lines)
        style_scale(axes, text, xlabel)
        value_ticks(axes, (float(x) for line in lines for x in line.x), base)
        axes.set_ylim(bottom, None)
        show_whole_dots(axes)
        label_ends(axes, labels)

    return draw


def sensitivity(data: FigureData) -> Drawing | None:
    """Late accuracy against the tuned setting; None unless a single numeric setting was tuned."""
    tuning = tune(data.study)
    if tuning is None:
        return None
    arms = [arm for of_base in tuning.tried.values() for arm in of_base]
    settings = {tuned_setting(arm.label).partition("=")[0] for arm in arms}
    if len(settings) != 1 or any(_tuned_value(arm) is None for arm in arms):
        return None
    bases = [(base, arm.title) for base in tuning.tried if (arm := tuning.study.arm(base))]
    styles = arm_styles(bases)
    lines = [_sensitivity_line(styles[base], of_base) for base, of_base in tuning.tried.items()]
    [setting] = settings
    draw = _lines_over_values(lines, lambda value: f"{value:.3g}%", setting, 10, bottom=0)
    panel = Panel("Late accuracy", "% of samples correct, over the last quarter", draw)
    return captioned("sensitivity", [panel], [describe_bands(arms)], setting=setting)


def _tuned_value(arm: Arm) -> float | None:
    try:
        return float(tuned_setting(arm.label).partition("=")[2])
    except ValueError:
        return None


def _sensitivity_line(style: Style, arms: Sequence[Arm]) -> Line:
    """Mean and limits at each setting that has a finished run. The band of a setting with a single run has no width."""
    by_value = sorted((float(_tuned_value(arm) or 0), list(LATE_ACCURACY.by_seed(arm).values())) for arm in arms)
    points = [
        (x, fmean(values), *(limits_over_seeds(values, LATE_ACCURACY.bounds) or (fmean(values), fmean(values))))
        for x, values in by_value
        if values
    ]
    return Line(style, *np.array(points).T)
