"""Patience of a run with a task that teaches nothing, because no prompt has both right and wrong answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from winnow.training.progress import RunProgress


@dataclass(frozen=True, slots=True)
class Ending:
    """The reason why a run ends early, in words; `solved` says that the task is done, and not out of reach."""

    words: str
    solved: bool


@dataclass(frozen=True, slots=True)
class Patience:
    """The number of iterations in a row without a mixed prompt that a run goes through; None: any number."""

    iterations: int | None = None

    def counted(self, before: int, metrics: Mapping[str, float]) -> int:
        """The number of such iterations in a row, after one with these metrics."""
        return before + 1 if self.iterations is not None and metrics.get("train/groups/frac_mixed") == 0 else 0

    def exhausted(self, progress: RunProgress) -> bool:
        return self.iterations is not None and progress.barren >= self.iterations

    def ending(self, progress: RunProgress, metrics: Mapping[str, float]) -> Ending | None:
        """The end of a run after an iteration with these metrics, if it is to end."""
        if not self.exhausted(progress):
            return None
        right, wrong = (metrics[f"train/groups/frac_all_{kind}"] for kind in ("correct", "wrong"))
        which = "the task is solved" if right > wrong else "the task is out of reach"
        advice = "dataset= with other problems" if right > wrong else "easier problems, a better model or more samples"
        return Ending(
            f"iteration {progress.iteration}: in {progress.barren} iterations in a row no prompt had both right and "
            f"wrong answers (of the last one's {right:.0%} were all right, {wrong:.0%} all wrong): {which}, and there "
            f"is nothing to learn from; type {advice}, or collector.patience=null to go on all the same",
            solved=right > wrong,
        )
