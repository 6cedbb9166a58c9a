"""How far accuracy came for how far the policy moved."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes

from winnow.evaluation.intervals import pass_at_k, powers_of_two
from winnow.run_logs.run_files import EvaluationCounts
from winnow.study.measures import FINAL_ACCURACY, LATE_ACCURACY, LATE_KL
from winnow.study.report.learning_curves import HELD_OUT, KL, Line, draw_lines
from winnow.study.report.panels import (
    MUTED,
    Drawing,
    EndLabel,
    Panel,
    Style,
    arm_styles,
    label_ends,
    logarithmic_ticks,
    style_scale,
)
from winnow.study.report.subject import StudyView, band_words
from winnow.study.runs import StudyRun
from winnow.study.statistics import NoInterval, over_seeds
from winnow.study.study import Arm
from winnow.study.tuning import tune, tuned_setting

KlPath = tuple[Style, np.ndarray, np.ndarray]


def accuracy_against_kl(subject: StudyView) -> Drawing | None:
    """Mean held-out accuracy against mean KL to the initial model, evaluation by evaluation, and where each arm ends."""
    panels = [panel for name, arms in subject.families if (panel := _kl_panel(subject, name, arms))]
    caption = (
        "Each line is an arm's mean over seeds, evaluation by evaluation after the start of training, at the mean KL since the "
        "evaluation before. The dot is what tables give: final accuracy, and KL over the last quarter; its cross, 95 % intervals "
        "of both over seeds. Up is better; left is closer to the initial model (log scale)."
    )
    return Drawing("accuracy_kl", "Accuracy against KL", caption, tuple(panels), columns=2) if panels else None


def kl_trajectory(subject: StudyView, arm: Arm) -> KlPath | None:
    """Accuracy at each evaluation and the mean KL since the one before; None where there are fewer than two, no end,
    or a KL of 0, which a logarithmic axis cannot show."""
    if not (FINAL_ACCURACY.by_seed(arm) and LATE_KL.by_seed(arm)):
        return None
    accuracy, kl = subject.curve(arm, HELD_OUT.key, "iterations"), subject.curve(arm, KL.key, "iterations")
    spans = [(kl.x > before) & (kl.x <= now) for before, now in pairwise(accuracy.x)]
    points = [
        (kl.mean[span].mean(), height) for span, height in zip(spans, accuracy.mean[1:], strict=True) if span.any()
    ]
    if len(points) < 2 or min(kl for kl, _ in points) <= 0:
        return None
    moved, reached = np.array(points).T
    return subject.styles[arm.label], moved, reached


def _kl_panel(subject: StudyView, name: str, arms: Sequence[Arm]) -> Panel | None:
    paths = {arm.label: path for arm in arms if (path := kl_trajectory(subject, arm))}
    if not paths:
        return None

    def draw(axes: Axes) -> None:
        for style, kl, accuracy in paths.values():
            axes.plot(
                kl,
                accuracy,
                color=style.light,
                linewidth=1.2,
                alpha=0.6,
                linestyle=(0, style.dash) if style.dash else "-",
            )
        ends = [_kl_end(subject, arm) for arm in arms if arm.label in paths]
        for end in ends:
            axes.plot([end.x], [end.y], color=end.colour, marker="o", markersize=5, linestyle="")
        axes.autoscale_view()
        low, high = axes.get_ylim()
        for end, arm in zip(ends, [arm for arm in arms if arm.label in paths], strict=True):
            _kl_cross(axes, arm, end)
        # Crosses of few seeds may be huge: they reach out of a panel that the lines scale.
        axes.set_ylim(low, high + 0.05 * (high - low))
        style_scale(axes, HELD_OUT.text, "KL to the initial model, nats a token")
        limits = _kl_limits([*(kl for _, kl, _ in paths.values()), [end.x for end in ends]])
        axes.set(xscale="log", xlim=limits)
        logarithmic_ticks(axes.xaxis, limits, KL.text)
        label_ends(axes, ends)

    return Panel(f"Accuracy against KL · {name}" if name else "Accuracy against KL", HELD_OUT.unit, draw)


def _kl_limits(moved: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, float]:
    found = np.concatenate(moved)
    return 0.8 * float(found.min()), 1.25 * float(found.max())


def _kl_end(subject: StudyView, arm: Arm) -> EndLabel:
    style = subject.styles[arm.label]
    accuracy, kl = fmean(FINAL_ACCURACY.by_seed(arm).values()), fmean(LATE_KL.by_seed(arm).values())
    return EndLabel(style.title, kl, accuracy / 100, style.light)


def _kl_cross(axes: Axes, arm: Arm, end: EndLabel) -> None:
    """Nothing where either has no interval."""
    try:
        accuracy = over_seeds(list(FINAL_ACCURACY.by_seed(arm).values()))
        kl = over_seeds(list(LATE_KL.by_seed(arm).values()))
    except NoInterval:
        return
    line = {"color": end.colour, "linewidth": 0.9, "alpha": 0.7}
    axes.plot([kl.low, kl.high], [end.y, end.y], **line)
    axes.plot([end.x, end.x], [accuracy.low / 100, accuracy.high / 100], **line)


BASE = Style("", "before training", MUTED, MUTED, (1, 1.5))


def pass_curves(subject: StudyView) -> Drawing | None:
    """None where no evaluation with two samples or more recorded its counts."""
    base = _base_lines(subject)
    panels = [
        Panel(
            f"pass@k · {name}" if name else "pass@k",
            "% of prompts with one of k samples correct",
            _pass_drawing([*lines, *base]),
        )
        for name, arms in subject.families
        if (lines := [line for arm in arms if (line := _pass_line(subject.styles[arm.label], pass_curves_of(arm)))])
    ]
    caption = (
        "At the last evaluation, unbiased (Chen et al. 2021), mean over seeds; before training: iteration 0, mean over all runs. A "
        f"curve that starts higher and ends lower has traded variety for certainty. {band_words(subject.study.arms)}"
    )
    return Drawing("pass_at_k", "pass@k", caption, tuple(panels), columns=2) if panels else None


def pass_curves_of(arm: Arm) -> list[dict[int, float]]:
    """Of each run with counts: pass@k of its last evaluation by k, plain mean over sets."""
    runs = (run for run in arm.runs if run.evaluations)
    return [_pass_rates_at(run, max(counts.iteration for counts in run.evaluations)) for run in runs]


def pass_rate(counts: EvaluationCounts, k: int) -> float:
    """pass@k of an evaluation, from how many of its samples were right."""
    right = np.arange(counts.samples) < np.array(counts.correct)[:, None]
    return pass_at_k(right, k).estimate


def _pass_rates_at(run: StudyRun, iteration: int) -> dict[int, float]:
    sets = [counts for counts in run.evaluations if counts.iteration == iteration]
    least = min((counts.samples for counts in sets), default=0)
    return {k: fmean(pass_rate(counts, k) for counts in sets) for k in powers_of_two(least)} if least > 1 else {}


def _base_lines(subject: StudyView) -> list[Line]:
    runs = [run for arm in subject.study.arms for run in arm.runs]
    line = _pass_line(BASE, [_pass_rates_at(run, 0) for run in runs], band=False)
    return [line] if line else []


def _pass_line(style: Style, curves: Sequence[dict[int, float]], band: bool = True) -> Line | None:
    """Over the k that all runs have."""
    curves = [curve for curve in curves if curve]
    ks = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not ks:
        return None
    values = [[curve[k] for curve in curves] for k in ks]
    limits = [_pass_limits(column) for column in values] if band else []
    drawn = [limit for limit in limits if limit]
    low, high = np.array(drawn).T if len(drawn) == len(ks) else (None, None)
    return Line(style, np.array(ks, dtype=float), np.array([fmean(column) for column in values]), low, high)


def _pass_limits(column: Sequence[float]) -> tuple[float, float] | None:
    try:
        found = over_seeds(column)
    except NoInterval:
        return None
    return found.low, found.high


def _pass_drawing(lines: Sequence[Line]):
    def on(axes: Axes) -> None:
        names: list[EndLabel] = draw_lines(axes, lines)
        style_scale(axes, lambda value: f"{100 * value:.3g}%", "k")
        axes.set_xscale("log", base=2)
        ks = sorted({int(x) for line in lines for x in line.x})
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.minorticks_off()
        axes.set_xlim(ks[0], ks[-1])
        label_ends(axes, names)

    return on


def sensitivity(subject: StudyView) -> Drawing | None:
    """None where no single number was tuned."""
    tuning = tune(subject.study)
    if tuning is None:
        return None
    keys = {tuned_setting(arm.label).partition("=")[0] for arms in tuning.tried.values() for arm in arms}
    if len(keys) != 1 or not all(_tuned_value(arm) is not None for arms in tuning.tried.values() for arm in arms):
        return None
    looks = arm_styles([(base, tuning.study.arm(base).title) for base in tuning.tried])  # pyright: ignore[reportOptionalMemberAccess]
    lines = [_sensitivity_line(looks[base], arms) for base, arms in tuning.tried.items()]
    [key] = keys
    caption = f"Late accuracy by {key}. {band_words([arm for arms in tuning.tried.values() for arm in arms])}"
    panel = Panel("Late accuracy", "% of samples correct, over the last quarter", _sensitivity_drawing(lines, key))
    return Drawing("sensitivity", f"Each algorithm at several {key}", caption, (panel,), columns=1)


def _tuned_value(arm: Arm) -> float | None:
    try:
        return float(tuned_setting(arm.label).partition("=")[2])
    except ValueError:
        return None


def _sensitivity_line(style: Style, arms: Sequence[Arm]) -> Line:
    """Settings without a finished run are left out; one with a single run has no width."""
    found = sorted((float(_tuned_value(arm) or 0), list(LATE_ACCURACY.by_seed(arm).values())) for arm in arms)
    points = [(x, fmean(values), *_sensitivity_limits(values)) for x, values in found if values]
    x, y, low, high = (np.array(column) for column in zip(*points, strict=True))
    return Line(style, x, y, low, high)


def _sensitivity_limits(values: Sequence[float]) -> tuple[float, float]:
    try:
        found = over_seeds(values)
    except NoInterval:
        return fmean(values), fmean(values)
    return found.low, found.high


def _sensitivity_drawing(lines: Sequence[Line], key: str):
    def on(axes: Axes) -> None:
        names = draw_lines(axes, lines)
        style_scale(axes, lambda value: f"{value:.3g}%", key)
        axes.set_xscale("log")
        values = sorted({float(x) for line in lines for x in line.x})
        axes.set_xticks(values, [f"{x:g}" for x in values])
        axes.minorticks_off()
        axes.set_xlim(values[0], values[-1])
        axes.set_ylim(0, None)
        label_ends(axes, names)

    return on
