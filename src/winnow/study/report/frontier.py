"""How far accuracy came for how far the policy moved."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes

from winnow.study.measures import FINAL_ACCURACY, LATE_KL
from winnow.study.report.axes import Name, beside, logarithmic, scale
from winnow.study.report.figure import Drawing, Panel
from winnow.study.report.metrics import HELD_OUT, KL
from winnow.study.report.palette import Style
from winnow.study.report.subject import Subject
from winnow.study.statistics import Refused, over_seeds
from winnow.study.study import Arm

Path = tuple[Style, np.ndarray, np.ndarray]


def frontier(subject: Subject) -> Drawing | None:
    """Mean held-out accuracy against mean KL to the initial model, evaluation by evaluation, and where each arm ends."""
    panels = [panel for name, arms in subject.families if (panel := _panel(subject, name, arms))]
    caption = (
        "Each line is an arm's mean over seeds, evaluation by evaluation after the start of training, at the mean KL since the "
        "evaluation before. The dot is what tables give: final accuracy, and KL over the last quarter; its cross, 95 % intervals "
        "of both over seeds. Up is better; left is closer to the initial model (log scale)."
    )
    return Drawing("accuracy_kl", "Accuracy against KL", caption, tuple(panels), columns=2) if panels else None


def trajectory(subject: Subject, arm: Arm) -> Path | None:
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


def _panel(subject: Subject, name: str, arms: Sequence[Arm]) -> Panel | None:
    paths = {arm.label: path for arm in arms if (path := trajectory(subject, arm))}
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
        ends = [_end(subject, arm) for arm in arms if arm.label in paths]
        for end in ends:
            axes.plot([end.x], [end.y], color=end.colour, marker="o", markersize=5, linestyle="")
        axes.autoscale_view()
        low, high = axes.get_ylim()
        for end, arm in zip(ends, [arm for arm in arms if arm.label in paths], strict=True):
            _cross(axes, arm, end)
        # Crosses of few seeds may be huge: they reach out of a panel that the lines scale.
        axes.set_ylim(low, high + 0.05 * (high - low))
        scale(axes, HELD_OUT.text, "KL to the initial model, nats a token")
        limits = _limits([*(kl for _, kl, _ in paths.values()), [end.x for end in ends]])
        axes.set(xscale="log", xlim=limits)
        logarithmic(axes.xaxis, limits, KL.text)
        beside(axes, ends)

    return Panel(f"Accuracy against KL · {name}" if name else "Accuracy against KL", HELD_OUT.unit, draw)


def _limits(moved: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, float]:
    found = np.concatenate(moved)
    return 0.8 * float(found.min()), 1.25 * float(found.max())


def _end(subject: Subject, arm: Arm) -> Name:
    style = subject.styles[arm.label]
    accuracy, kl = fmean(FINAL_ACCURACY.by_seed(arm).values()), fmean(LATE_KL.by_seed(arm).values())
    return Name(style.title, kl, accuracy / 100, style.light)


def _cross(axes: Axes, arm: Arm, end: Name) -> None:
    """Nothing where either has no interval."""
    try:
        accuracy = over_seeds(list(FINAL_ACCURACY.by_seed(arm).values()))
        kl = over_seeds(list(LATE_KL.by_seed(arm).values()))
    except Refused:
        return
    line = {"color": end.colour, "linewidth": 0.9, "alpha": 0.7}
    axes.plot([kl.low, kl.high], [end.y, end.y], **line)
    axes.plot([end.x, end.x], [accuracy.low / 100, accuracy.high / 100], **line)
