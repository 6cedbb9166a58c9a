"""Differences of every arm of a study to its baseline in final accuracy, each with an interval and a verdict."""

from collections.abc import Sequence

from winnow.study import packaged_yaml
from winnow.study.claims import Claim, ClaimVerdict, verdicts
from winnow.study.measures import FINAL_ACCURACY
from winnow.study.study import Arm, Study

BASELINES: list[str] = packaged_yaml("report/figures.yaml")["baselines"]


def baseline(arms: Sequence[Arm]) -> Arm:
    """The arm that others are compared with."""
    by_label = {arm.label: arm for arm in arms}
    named = [by_label[label] for label in BASELINES if label in by_label]
    return named[0] if named else max(arms, key=lambda arm: len(arm.runs))


def differences(study: Study) -> list[ClaimVerdict]:
    """A verdict for each arm but the baseline, in the order of the study: better, worse, inside noise, not measured.

    The arms are tested together: their p-values are adjusted by Holm's method. Empty where nothing can be compared.
    """
    measured = [arm for arm in study.arms if FINAL_ACCURACY.by_seed(arm)]
    if not measured:
        return []
    base = baseline(measured)
    return verdicts(study, [_question(base, arm) for arm in study.arms if arm is not base])


def nothing_to_compare(study: Study) -> str | None:
    """A sentence on why a study with finished runs shows no difference between arms; None if it shows one."""
    titles = [arm.title for arm in study.arms]
    if not titles or differences(study):
        return None
    if len(titles) > 1:
        return "No difference between arms is shown: final accuracy was not recorded in any run."
    return (
        f"No difference between arms is shown: {titles[0]} is the only one. It takes a second arm, with the same seeds."
    )


def _question(base: Arm, arm: Arm) -> Claim:
    return Claim(
        key=arm.label,
        source="Differences",
        question=f"Is {arm.title} better than {base.title}?",
        statement=f"{arm.title} and {base.title} differ in {FINAL_ACCURACY.title}.",
        a=base.label,
        b=arm.label,
        measure=FINAL_ACCURACY,
        expects="different",
        margin=0.0,
        paper="",
        titles={base.label: base.title, arm.label: arm.title},
    )
