"""What prompts taught: how many had wrong samples only, right ones only, or both, over training."""

from matplotlib.axes import Axes

from winnow.study.report.axes import SIZE, scale
from winnow.study.report.figure import SMALL, Drawing, Panel
from winnow.study.report.lines import running_mean, window
from winnow.study.report.metrics import ALL_CORRECT, ALL_WRONG, AXIS_TITLES
from winnow.study.report.palette import BAD, GOOD, INK, MUTED
from winnow.study.report.subject import Subject
from winnow.study.study import Arm


def prompts(subject: Subject) -> Drawing | None:
    """A small panel an arm; None where shares of prompts were not recorded."""
    panels = [panel for arm in subject.study.arms if (panel := _panel(subject, arm))]
    caption = (
        "Share of each iteration's prompts whose samples are all wrong (orange, below), mixed (grey) or all correct (blue, "
        "above), mean over seeds, running mean, no band. Only mixed prompts tell right from wrong; whether the others move the "
        "policy is what filters and baselines decide."
    )
    return Drawing("prompts", "Which prompts have a signal", caption, tuple(panels), columns=5) if panels else None


def _panel(subject: Subject, arm: Arm) -> Panel | None:
    wrong, correct = subject.curve(arm, ALL_WRONG), subject.curve(arm, ALL_CORRECT)
    if not len(wrong.x) or len(wrong.x) != len(correct.x):
        return None
    size = window(len(wrong.x))
    below, above = running_mean(wrong.mean, size), 1 - running_mean(correct.mean, size)

    def draw(axes: Axes) -> None:
        axes.fill_between(wrong.x, 0, below, color=BAD, alpha=0.55, linewidth=0)
        axes.fill_between(wrong.x, below, above, color=MUTED, alpha=0.25, linewidth=0)
        axes.fill_between(wrong.x, above, 1, color=GOOD, alpha=0.55, linewidth=0)
        axes.set(xlim=(wrong.x[0], max(wrong.x[-1], wrong.x[0] + 1)), ylim=(0, 1))
        scale(axes, lambda value: f"{100 * value:.0f}%", AXIS_TITLES[subject.x], bins=3)
        axes.set_yticks([0, 0.5, 1])
        axes.grid(False)
        at = (float(below[-1]) + float(above[-1])) / 2
        axes.text(
            0.97, at, f"{above[-1] - below[-1]:.0%} mixed", transform=axes.get_yaxis_transform(), ha="right", va="center",
            fontsize=SIZE - 0.5, color=INK,
        )  # fmt: skip

    return Panel(subject.styles[arm.label].title, "", draw, SMALL)
