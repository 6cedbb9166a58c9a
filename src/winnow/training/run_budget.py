"""What a run may cost."""

from dataclasses import dataclass

from winnow.training.datamodule import Progress


@dataclass(frozen=True, slots=True)
class RunBudget:
    """Since the start of the run, resumes added up: response tokens sampled, those under a gradient, and seconds.

    None is without end. A run ends after the first iteration in which one is reached, however much it goes over.
    """

    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    seconds: float | None = None

    def reached(self, progress: Progress) -> bool:
        return any(
            limit is not None and spent >= limit
            for limit, spent in (
                (self.sampled_tokens, progress.sampled_tokens),
                (self.trained_tokens, progress.trained_tokens),
                (self.seconds, progress.seconds),
            )
        )
