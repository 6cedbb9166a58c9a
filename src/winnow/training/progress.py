"""Progress of a run: the counters and results that a checkpoint holds besides weights and optimiser; and its budget."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import pytorch_lightning as pl

from winnow.data.order import Order
from winnow.experience.ahead import Ahead
from winnow.experience.loader import ExperienceLoader
from winnow.run_logs.run_files import Status, Summary

ORDER = "order"
"""Entry of the state that holds what the order of the problems has learnt."""
AHEAD = "ahead"
"""Entry of the state that holds the samples that were drawn ahead."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Counters and results of a run so far.

    `barren` are the last iterations, in a row, in which no prompt was mixed, where that may end the run. `eval_last` is
    the held-out accuracy after iteration `evaluated`, and `eval_best` the highest one after an iteration of training,
    which is `best`: the first of those that share it, 0 if there was none.
    """

    iteration: int = 0
    prompts: int = 0
    sampled_tokens: int = 0
    trained_tokens: int = 0
    barren: int = 0
    seconds: float = 0.0
    eval_first: float | None = None
    eval_last: float | None = None
    evaluated: int = 0
    eval_best: float | None = None
    best: int = 0
    tracker_id: str | None = None
    initial_weights: str | None = None
    prompt_hash: str = ""
    verifiers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "RunProgress":
        """The progress in the state of an `IterationData`, which holds more."""
        return cls(**{each.name: state[each.name] for each in fields(cls) if each.name in state})

    def with_accuracy(self, iteration: int, accuracy: float) -> "RunProgress":
        """The progress after an evaluation of the policy after `iteration`, 0 for the one before training."""
        if iteration == 0:
            return replace(self, eval_first=accuracy, eval_last=accuracy)
        later = replace(self, eval_last=accuracy, evaluated=iteration)
        is_best = self.eval_best is None or accuracy > self.eval_best
        return replace(later, eval_best=accuracy, best=iteration) if is_best else later

    def summary(self, status: Status, algo: str, model: str, dataset: str, seed: int) -> Summary:
        """The summary of a run of algorithm, model and dataset with these names, as of now."""
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
    """The Lightning data module of a run: its train loader and its progress.

    Every random draw is keyed by the iteration, so that the state of the data in a checkpoint is these counters, what
    the order of the problems has learnt from the run, and samples that were drawn ahead.
    """

    def __init__(self, loader: ExperienceLoader, order: Order, ahead: Ahead | None = None) -> None:
        super().__init__()
        self.loader, self.order, self.ahead = loader, order, ahead
        self.progress = RunProgress()

    def train_dataloader(self) -> ExperienceLoader:
        return self.loader

    def advance(self, progress: RunProgress) -> None:
        """Set the progress, and with it the iteration that the loader collects next."""
        self.progress = progress
        self.loader.iteration = progress.iteration

    def note(self, **changes: float | int | str | dict[str, str] | None) -> None:
        """Replace the named fields of `progress`."""
        self.progress = replace(self.progress, **changes)  # pyright: ignore[reportArgumentType]

    def note_accuracy(self, iteration: int, accuracy: float) -> None:
        """Enter an evaluation of the policy after `iteration` into `progress`."""
        self.progress = self.progress.with_accuracy(iteration, accuracy)

    def state_dict(self) -> dict[str, object]:
        state: dict[str, object] = asdict(self.progress)
        if learnt := self.order.state(self.progress.iteration):
            state[ORDER] = learnt
        if self.ahead is not None:
            state[AHEAD] = self.ahead.state(self.progress.iteration)
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        self.order.restore(state_dict.get(ORDER, {}))
        if self.ahead is not None:
            self.ahead.restore(state_dict.get(AHEAD, {}))
        self.advance(RunProgress.of(state_dict))


@dataclass(frozen=True, slots=True)
class RunBudget:
    """Limits on a run: response tokens sampled, response tokens trained, seconds.

    They count from the start of the run, over all resumes. None is no limit. A run ends after the first iteration in
    which it reaches a limit; that iteration may exceed it.
    """

    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    seconds: float | None = None

    def reached(self, progress: RunProgress) -> bool:
        # Limits have the names of the counters of `RunProgress` that they bound.
        limits = asdict(self).items()
        return any(limit is not None and getattr(progress, counter) >= limit for counter, limit in limits)
