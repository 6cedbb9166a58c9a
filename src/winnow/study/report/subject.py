"""What is drawn: a study, with its arms' colours and their curves at hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from winnow.study.curves import Axis, Curve, curve
from winnow.study.report.panels import Style, arm_styles
from winnow.study.study import Arm, Study

RAFT_FAMILY = ("raft", "raftpp", "raftpp_no_clip", "raftpp_clip_higher", "dpo")
FIGURE_4 = (
    "reinforce",
    "mean_zero",
    "remove_all_correct",
    "remove_all_wrong",
    "reinforce_rej",
    "remove_both_std",
    "grpo",
)
REINFORCE_FAMILY = (*FIGURE_4, "ppo")
TOGETHER = 7
"""As many curves as can be told apart, and named, in a panel."""


@dataclass(frozen=True)
class StudyView:
    """`x` is the axis of curves. A curve is computed once, whatever shows it."""

    study: Study
    x: Axis
    styles: dict[str, Style] = field(init=False)
    _curves: dict[tuple[str, str, Axis], Curve] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "styles", arm_styles([(arm.label, arm.title) for arm in self.study.arms]))

    def curve(self, arm: Arm, metric: str, x: Axis | None = None) -> Curve:
        key = (arm.label, metric, x or self.x)
        if key not in self._curves:
            self._curves[key] = curve(arm, metric, x or self.x)
        return self._curves[key]

    def present(self, labels: Iterable[str]) -> list[Arm]:
        return [arm for label in labels if (arm := self.study.arm(label))]

    @property
    def families(self) -> list[tuple[str, list[Arm]]]:
        """All arms, split so that a panel can show each part: the paper's two families, and others by the handful."""
        arms = list(self.study.arms)
        if len(arms) <= TOGETHER:
            return [("", arms)]
        known = [("RAFT family", self.present(RAFT_FAMILY)), ("Reinforce family", self.present(REINFORCE_FAMILY))]
        others = [arm for arm in arms if arm.label not in (*RAFT_FAMILY, *REINFORCE_FAMILY)]
        parts = [("others", others[i : i + TOGETHER]) for i in range(0, len(others), TOGETHER)]
        return [(name, members) for name, members in [*known, *parts] if members]


def band_words(arms: Sequence[Arm]) -> str:
    """What the bands around these arms' curves are."""
    if all(len(arm.runs) < 2 for arm in arms):
        return "No band: one run of each arm."
    single = [arm.title for arm in arms if len(arm.runs) < 2]
    band = "Band: 95 % interval of the mean over seeds (Student t), point by point."
    return f"{band} No band, one run: {', '.join(single)}." if single else band
