"""From one algorithm to another, one knob at a time."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from winnow.study.arms import title as title_of
from winnow.study.measures import FINAL_ACCURACY
from winnow.study.report.figure import Drawing, Panel, rows_frame
from winnow.study.report.forest import difference, level
from winnow.study.report.palette import BAD, GOOD
from winnow.study.report.rows import Row, draw
from winnow.study.report.subject import Subject
from winnow.study.study import Arm

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


def waterfall(subject: Subject) -> Drawing | None:
    """A panel for each chain of which two arms or more are there; None where there is none."""
    chains = [(title, labels, _measured(subject, labels)) for title, labels in CHAINS]
    drawn = [(title, labels, arms) for title, labels, arms in chains if len(arms) > 1]
    if not drawn:
        return None
    panels = [_panel(subject, title, arms) for title, _, arms in drawn]
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


def _measured(subject: Subject, labels: Sequence[str]) -> list[Arm]:
    return [arm for arm in subject.present(labels) if FINAL_ACCURACY.by_seed(arm)]


def _panel(subject: Subject, title: str, arms: Sequence[Arm]) -> Panel:
    rows = [level(subject, arms[0], FINAL_ACCURACY)]
    at = rows[0].mean
    for before, after in itertools.pairwise(arms):
        step = difference(subject, before, after, FINAL_ACCURACY)
        if step is None:
            continue
        rows.append(_step(step, at, STEPS.get((before.label, after.label), f"→ {step.name}")))
        at += step.mean
    return Panel(
        title, "final accuracy, %", lambda axes: draw(axes, rows, "% of samples correct"), rows_frame(len(rows))
    )


def _step(step: Row, at: float, name: str) -> Row:
    limits = step.limits and (at + step.limits[0], at + step.limits[1])
    colour = GOOD if step.mean >= 0 else BAD
    return replace(step, name=name, colour=colour, mean=at + step.mean, limits=limits, dots=(), start=at)
