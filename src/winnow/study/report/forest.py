"""Where arms end, and how far each is from one of them."""

from winnow.study.measures import FINAL_ACCURACY, Measure
from winnow.study.report.figure import Drawing, Panel, rows_frame
from winnow.study.report.rows import Row, draw
from winnow.study.report.subject import Subject
from winnow.study.report.words import interval, signed
from winnow.study.statistics import Refused, over_seeds, paired
from winnow.study.study import Arm

BASELINES = ("reinforce", "raft", "grpo")
"""What others are compared with: the first of these in the study, else the arm with the most seeds."""


def forest(subject: Subject) -> Drawing | None:
    """Final accuracy of every arm, and its paired difference to the baseline; None where fewer than two runs were evaluated
    at their end."""
    arms = [arm for arm in subject.study.arms if FINAL_ACCURACY.by_seed(arm)]
    if sum(len(arm.runs) for arm in arms) < 2:
        return None
    levels = sorted((level(subject, arm, FINAL_ACCURACY) for arm in arms), key=lambda row: -row.mean)
    panels = [
        Panel(
            "Final accuracy",
            "mean of the seeds, 95 % interval; small dots: seeds",
            _rows(levels),
            rows_frame(len(levels)),
        )
    ]
    caption = "" if all(row.limits for row in levels) else "Hollow: no interval, for the reason given. "
    base = baseline(arms)
    if others := [arm for arm in arms if arm is not base]:
        gaps = [difference(subject, base, arm, FINAL_ACCURACY) for arm in others]
        shown = sorted((row for row in gaps if row), key=lambda row: -row.mean)
        if shown:
            name = subject.styles[base.label].title
            panels.append(
                Panel(
                    f"Difference to {name}",
                    "points of accuracy, paired by seed",
                    _rows(shown, name),
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


def level(subject: Subject, arm: Arm, measure: Measure) -> Row:
    """The arm's mean of a measure with each of its seeds."""
    style, values = subject.styles[arm.label], list(measure.by_seed(arm).values())
    try:
        estimate = over_seeds(values)
    except Refused as refused:
        mean = sum(values) / len(values)
        return Row(style.title, style.light, mean, None, f"{mean:.1f} {short(refused)}", values)
    words = f"{estimate.mean:.1f} {interval(estimate.low, estimate.high)}"
    return Row(style.title, style.light, estimate.mean, (estimate.low, estimate.high), words, values)


def difference(subject: Subject, base: Arm, arm: Arm, measure: Measure) -> Row | None:
    """What `arm` has more than `base`; None without a common seed."""
    style, a, b = subject.styles[arm.label], measure.by_seed(base), measure.by_seed(arm)
    gaps = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
    if not gaps:
        return None
    try:
        found = paired(a, b)
    except Refused as refused:
        mean = sum(gaps) / len(gaps)
        return Row(style.title, style.light, mean, None, f"{signed(mean)} {short(refused)}", gaps)
    words = f"{signed(found.mean)} {interval(found.low, found.high)}"
    return Row(style.title, style.light, found.mean, (found.low, found.high), words, gaps)


def short(refused: Refused) -> str:
    """`(one run)`: why there is no interval, as short as fits beside a mark."""
    words = str(refused).split(":")[0]
    return f"({'one run' if words == 'fewer than two runs' else words})"


def _rows(rows: list[Row], base: str = ""):
    unit = f"points; 0: as {base}" if base else "% of samples correct"
    return lambda axes: draw(axes, rows, unit, zero=bool(base))
