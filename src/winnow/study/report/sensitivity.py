"""How much an algorithm depends on its learning rate, or on another setting of the optimiser."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes

from winnow.study.measures import LATE_ACCURACY
from winnow.study.report.axes import beside, scale
from winnow.study.report.figure import Drawing, Panel
from winnow.study.report.lines import Line, draw
from winnow.study.report.palette import Style, styles
from winnow.study.report.subject import Subject, band_words
from winnow.study.statistics import Refused, over_seeds
from winnow.study.study import Arm
from winnow.study.tuning import setting, tuned


def sensitivity(subject: Subject) -> Drawing | None:
    """None where no single number was tuned."""
    tuning = tuned(subject.study)
    if tuning is None:
        return None
    keys = {setting(arm.label).partition("=")[0] for arms in tuning.tried.values() for arm in arms}
    if len(keys) != 1 or not all(_value(arm) is not None for arms in tuning.tried.values() for arm in arms):
        return None
    looks = styles([(base, tuning.study.arm(base).title) for base in tuning.tried])  # pyright: ignore[reportOptionalMemberAccess]
    lines = [_line(looks[base], arms) for base, arms in tuning.tried.items()]
    [key] = keys
    caption = f"Late accuracy by {key}. {band_words([arm for arms in tuning.tried.values() for arm in arms])}"
    panel = Panel("Late accuracy", "% of samples correct, over the last quarter", _drawing(lines, key))
    return Drawing("sensitivity", f"Each algorithm at several {key}", caption, (panel,), columns=1)


def _value(arm: Arm) -> float | None:
    try:
        return float(setting(arm.label).partition("=")[2])
    except ValueError:
        return None


def _line(style: Style, arms: Sequence[Arm]) -> Line:
    """Settings without a finished run are left out; one with a single run has no width."""
    found = sorted((float(_value(arm) or 0), list(LATE_ACCURACY.by_seed(arm).values())) for arm in arms)
    points = [(x, fmean(values), *_limits(values)) for x, values in found if values]
    x, y, low, high = (np.array(column) for column in zip(*points, strict=True))
    return Line(style, x, y, low, high)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    try:
        found = over_seeds(values)
    except Refused:
        return fmean(values), fmean(values)
    return found.low, found.high


def _drawing(lines: Sequence[Line], key: str):
    def on(axes: Axes) -> None:
        names = draw(axes, lines)
        scale(axes, lambda value: f"{value:.3g}%", key)
        axes.set_xscale("log")
        values = sorted({float(x) for line in lines for x in line.x})
        axes.set_xticks(values, [f"{x:g}" for x in values])
        axes.minorticks_off()
        axes.set_xlim(values[0], values[-1])
        axes.set_ylim(0, None)
        beside(axes, names)

    return on
