"""Tuning: algorithms that ran with several optimiser settings, each at its best, as the paper describes its Table 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from winnow.study.arms import arm_rank, arm_title
from winnow.study.measures import LATE_ACCURACY
from winnow.study.study import Arm, Study

TUNED = "optim."
"""Prefix of the settings that are tuned and do not make another algorithm: `raft optim.lr=1e-4` is still RAFT."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings tried and chosen for each algorithm, by its label without settings.

    `tried` has an algorithm's arms, one per setting. `chosen` has the label of the arm that was chosen for each seed.
    `study` is the study with each algorithm as one arm, made of the runs that were chosen.
    """

    tried: Mapping[str, tuple[Arm, ...]]
    chosen: Mapping[str, Mapping[int, str]]
    study: Study


def tune(study: Study) -> Tuning | None:
    """The tuning of a study; None if no algorithm ran with several settings and two seeds.

    A seed's setting is the one with the best late accuracy over the *other* seeds. The noise that makes a setting look
    best is thus not counted again when the setting is judged.
    """
    tried: dict[str, list[Arm]] = {}
    for arm in study.arms:
        tried.setdefault(_untuned_label(arm.label), []).append(arm)
    several = {base: tuple(arms) for base, arms in tried.items() if len(arms) > 1}
    chosen = {base: labels for base, arms in several.items() if (labels := _chosen(arms))}
    if not chosen:
        return None
    best = [_at_its_best(base, several[base], settings) for base, settings in chosen.items()]
    replaced = {arm.label for base in chosen for arm in several[base]}
    kept = [arm for arm in study.arms if arm.label not in replaced]
    arms = sorted([*kept, *best], key=lambda arm: arm_rank(arm.label))
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
    title = arm_title(base, list(runs.values()))
    return Arm(base, title, tuple(replace(runs[label, seed], arm=base) for seed, label in settings.items()))
