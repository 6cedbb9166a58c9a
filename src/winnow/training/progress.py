"""Lightning's handle on the loader, and the counters that a checkpoint needs."""

from dataclasses import asdict, dataclass, field, replace

import pytorch_lightning as pl

from winnow.experience.loader import ExperienceLoader
from winnow.run_logs.run_files import Status, Summary


@dataclass(frozen=True, slots=True)
class RunProgress:
    """What a run has done so far, and what its summary needs; `eval_last` is of iteration `evaluated`."""

    iteration: int = 0
    prompts: int = 0
    sampled_tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    eval_first: float | None = None
    eval_last: float | None = None
    evaluated: int = 0
    tracker_id: str | None = None
    initial_weights: str | None = None
    prompt_hash: str = ""
    verifiers: dict[str, str] = field(default_factory=dict)

    def summary(self, status: Status, algo: str, model: str, dataset: str, seed: int) -> Summary:
        """What a run of these names has come to."""
        return Summary(
            status=status,
            algo=algo,
            model=model,
            dataset=dataset,
            seed=seed,
            iterations=self.iteration,
            eval_first=self.eval_first,
            eval_last=self.eval_last,
            sampled_tokens=self.sampled_tokens,
            trained_tokens=self.trained_tokens,
            seconds=self.seconds,
            prompt_hash=self.prompt_hash,
            verifiers=self.verifiers,
        )


class IterationData(pl.LightningDataModule):
    """All randomness is named by the iteration, so a checkpoint of the data is these counters."""

    def __init__(self, loader: ExperienceLoader) -> None:
        super().__init__()
        self.loader = loader
        self.progress = RunProgress()

    def train_dataloader(self) -> ExperienceLoader:
        return self.loader

    def advance(self, progress: RunProgress) -> None:
        self.progress = progress
        self.loader.iteration = progress.iteration

    def note(self, **changes: float | int | str | dict[str, str] | None) -> None:
        self.progress = replace(self.progress, **changes)  # pyright: ignore[reportArgumentType]

    def state_dict(self) -> dict[str, float | str | dict[str, str] | None]:
        return asdict(self.progress)

    def load_state_dict(self, state_dict: dict) -> None:
        self.advance(RunProgress(**state_dict))


@dataclass(frozen=True, slots=True)
class RunBudget:
    """Since the start of the run, resumes added up: response tokens sampled, those under a gradient, and seconds.

    None is without end. A run ends after the first iteration in which one is reached, however much it goes over.
    """

    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    seconds: float | None = None

    def reached(self, progress: RunProgress) -> bool:
        return any(
            limit is not None and spent >= limit
            for limit, spent in (
                (self.sampled_tokens, progress.sampled_tokens),
                (self.trained_tokens, progress.trained_tokens),
                (self.seconds, progress.seconds),
            )
        )
