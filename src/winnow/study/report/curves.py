"""Learning curves: the paper's figures where their arms are there, every arm in any case, and accuracy against what it cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from winnow.study.arms import title
from winnow.study.curves import Axis
from winnow.study.report.figure import Drawing, Panel
from winnow.study.report.lines import panels, with_references
from winnow.study.report.metrics import (
    CLIPPED,
    ENTROPY,
    HELD_OUT,
    KL,
    LENGTH,
    OVERVIEW,
    REWARD,
    SIGNAL,
    Metric,
)
from winnow.study.report.subject import FIGURE_4, Subject, band_words

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


def paper_figures(subject: Subject) -> Iterator[Drawing]:
    """Those of which two arms or more are there."""
    for figure in PAPER_FIGURES:
        arms, others = subject.present(figure.labels), subject.present(figure.levels)
        if len(arms) < 2:
            continue
        first, *rest = figure.metrics
        drawn = with_references(subject, arms, others, first) if others else panels(subject, [("", arms)], first)
        drawn += [panel for metric in rest for panel in panels(subject, [("", arms)], metric)]
        absent = [label for label in figure.labels if subject.study.arm(label) is None]
        missing = f" Not in this study: {', '.join(map(title, absent))}." if absent else ""
        if drawn:
            yield Drawing(
                figure.name, figure.title, f"{figure.caption} {band_words(arms)}{SMOOTHED}{missing}", tuple(drawn)
            )


def overview(subject: Subject) -> Drawing | None:
    """The six curves that tell how training went, of every arm."""
    parts = subject.families
    drawn = tuple(panel for metric in OVERVIEW for panel in panels(subject, parts, metric))
    caption = band_words(subject.study.arms) + SMOOTHED
    if len(parts) > 1:
        caption += " Panels of one title share their scale."
    return Drawing("curves", "Learning curves of every arm", caption, drawn, _columns(parts)) if drawn else None


def budgets(subject: Subject) -> Drawing | None:
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


def signal(subject: Subject) -> Drawing | None:
    """How much of what was sampled moved the policy, and which way."""
    parts = subject.families
    drawn = tuple(panel for metric in SIGNAL for panel in panels(subject, parts, metric))
    caption = (
        "Gradient mass is the sum over an update's tokens of |∂objective / ∂log π|, from rows with positive and with negative "
        "advantage (chosen and rejected responses of DPO); the trained share is that of sampled tokens whose gradient is not "
        f"zero; the effective sample size is Kish's. {band_words(subject.study.arms)}{SMOOTHED}"
    )
    return Drawing("signal", "Where the gradient comes from", caption, drawn, _columns(parts)) if drawn else None


def _against(subject: Subject, x: Axis) -> list[Panel]:
    return panels(subject, subject.families, replace(HELD_OUT, title=f"Accuracy over {COSTS[x]}"), x)


def _columns(parts: Sequence) -> int:
    return len(parts) if len(parts) > 1 else 3
