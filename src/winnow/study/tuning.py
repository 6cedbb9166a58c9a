"""Arms that ran with several settings of the optimiser, each at the best of its own, as the paper says of its Table 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from winnow.study.arms import arm_rank, arm_title
from winnow.study.measures import LATE_ACCURACY
from winnow.study.study import Arm, Study

TUNED = "optim."
"""What is tuned and no part of an algorithm: `raft optim.lr=1e-4` is RAFT with a learning rate."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """`tried` has the arms of each algorithm, one a setting; `chosen` the setting of each of its seeds.

    `study` is the same study with each algorithm once, at its best.
    """

    tried: Mapping[str, tuple[Arm, ...]]
    chosen: Mapping[str, Mapping[int, str]]
    study: Study


def tune(study: Study) -> Tuning | None:
    """None where no arm ran with several settings, or none with two seeds.

    A seed's setting is the one whose late accuracy is best over the arm's *other* seeds: the luck that picks a setting is not
    counted again when it is judged.
    """
    tried: dict[str, list[Arm]] = {}
    for arm in study.arms:
        tried.setdefault(_untuned_label(arm.label), []).append(arm)
    several = {base: tuple(arms) for base, arms in tried.items() if len(arms) > 1}
    chosen = {base: found for base, arms in several.items() if (found := _chosen(arms))}
    if not chosen:
        return None
    best = [_at_its_best(base, several[base], settings) for base, settings in chosen.items()]
    left = {arm.label for base in chosen for arm in several[base]}
    arms = sorted([*(arm for arm in study.arms if arm.label not in left), *best], key=lambda arm: arm_rank(arm.label))
    return Tuning({base: several[base] for base in chosen}, chosen, replace(study, arms=tuple(arms)))


def tuned_setting(label: str) -> str:
    """`optim.lr=1e-4` of `raft optim.lr=1e-4`."""
    return " ".join(word for word in label.split(" ")[1:] if word.startswith(TUNED))


def _untuned_label(label: str) -> str:
    first, *words = label.split(" ")
    return " ".join([first, *(word for word in words if not word.startswith(TUNED))])


def _chosen(arms: Sequence[Arm]) -> dict[int, str]:
    by_label = {arm.label: LATE_ACCURACY.by_seed(arm) for arm in arms}
    seeds = sorted({seed for figures in by_label.values() for seed in figures})
    return {seed: label for seed in seeds if (label := _best_without(seed, by_label)) is not None}


def _best_without(seed: int, by_label: Mapping[str, Mapping[int, float]]) -> str | None:
    others = {
        label: [x for s, x in figures.items() if s != seed] for label, figures in by_label.items() if seed in figures
    }
    scores = {label: fmean(figures) for label, figures in others.items() if figures}
    return max(scores, key=lambda label: scores[label]) if scores else None


def _at_its_best(base: str, arms: Sequence[Arm], settings: Mapping[int, str]) -> Arm:
    runs = {(arm.label, run.seed): run for arm in arms for run in arm.runs}
    return Arm(base, arm_title(base), tuple(replace(runs[label, seed], arm=base) for seed, label in settings.items()))
