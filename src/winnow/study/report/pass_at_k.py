"""What more samples buy: pass@k of the last evaluation, beside the model before training."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes

from winnow.evaluation.figures import powers_of_two
from winnow.evaluation.statistics import pass_at_k
from winnow.study.report.axes import Name, beside, scale
from winnow.study.report.figure import Drawing, Panel
from winnow.study.report.lines import Line, draw
from winnow.study.report.palette import MUTED, Style
from winnow.study.report.subject import Subject, band_words
from winnow.study.statistics import Refused, over_seeds
from winnow.study.study import Arm, Counts, StudyRun

BASE = Style("", "before training", MUTED, MUTED, (1, 1.5))


def pass_curves(subject: Subject) -> Drawing | None:
    """None where no evaluation with two samples or more recorded its counts."""
    base = _base(subject)
    panels = [
        Panel(
            f"pass@k · {name}" if name else "pass@k",
            "% of prompts with one of k samples correct",
            _drawing([*lines, *base]),
        )
        for name, arms in subject.families
        if (lines := [line for arm in arms if (line := _line(subject.styles[arm.label], curves_of(arm)))])
    ]
    caption = (
        "At the last evaluation, unbiased (Chen et al. 2021), mean over seeds; before training: iteration 0, mean over all runs. A "
        f"curve that starts higher and ends lower has traded variety for certainty. {band_words(subject.study.arms)}"
    )
    return Drawing("pass_at_k", "pass@k", caption, tuple(panels), columns=2) if panels else None


def curves_of(arm: Arm) -> list[dict[int, float]]:
    """Of each run with counts: pass@k of its last evaluation by k, plain mean over sets."""
    runs = (run for run in arm.runs if run.evaluations)
    return [_at(run, max(counts.iteration for counts in run.evaluations)) for run in runs]


def estimate(counts: Counts, k: int) -> float:
    """pass@k of an evaluation, from how many of its samples were right."""
    right = np.arange(counts.samples) < np.array(counts.correct)[:, None]
    return pass_at_k(right, k).estimate


def _at(run: StudyRun, iteration: int) -> dict[int, float]:
    sets = [counts for counts in run.evaluations if counts.iteration == iteration]
    least = min((counts.samples for counts in sets), default=0)
    return {k: fmean(estimate(counts, k) for counts in sets) for k in powers_of_two(least)} if least > 1 else {}


def _base(subject: Subject) -> list[Line]:
    runs = [run for arm in subject.study.arms for run in arm.runs]
    line = _line(BASE, [_at(run, 0) for run in runs], band=False)
    return [line] if line else []


def _line(style: Style, curves: Sequence[dict[int, float]], band: bool = True) -> Line | None:
    """Over the k that all runs have."""
    curves = [curve for curve in curves if curve]
    ks = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not ks:
        return None
    values = [[curve[k] for curve in curves] for k in ks]
    limits = [_limits(column) for column in values] if band else []
    drawn = [limit for limit in limits if limit]
    low, high = np.array(drawn).T if len(drawn) == len(ks) else (None, None)
    return Line(style, np.array(ks, dtype=float), np.array([fmean(column) for column in values]), low, high)


def _limits(column: Sequence[float]) -> tuple[float, float] | None:
    try:
        found = over_seeds(column)
    except Refused:
        return None
    return found.low, found.high


def _drawing(lines: Sequence[Line]):
    def on(axes: Axes) -> None:
        names: list[Name] = draw(axes, lines)
        scale(axes, lambda value: f"{100 * value:.3g}%", "k")
        axes.set_xscale("log", base=2)
        ks = sorted({int(x) for line in lines for x in line.x})
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.minorticks_off()
        axes.set_xlim(ks[0], ks[-1])
        beside(axes, names)

    return on
