"""The train loader: iterating over it is one iteration, which samples, scores and ranks, and yields the micro-batches.

An iteration is a Lightning epoch. The loader is a plain iterable without `__len__`: Lightning then asks for one
iterator per epoch, not before the previous epoch has ended, and takes as many batches as there are, even none.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from winnow import distributed, signals
from winnow.experience.batching import Experience, Plan
from winnow.experience.metrics import Clock
from winnow.types import MicroBatch, PairBatch

ExperienceSource = Callable[[int, Clock], Experience]
"""Iteration number (from 0) and clock → the experience of that iteration."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An iteration's experience, its optimiser batches as item indices, and the number of those that were skipped."""

    experience: Experience
    dealt: list[list[int]]
    skipped: int

    @property
    def tokens_trained(self) -> int:
        """Response tokens under a gradient, counted once in each epoch over the experience."""
        items, zero_gradient = self.experience.items, self.experience.zero_gradient
        trained = [items[i] for batch in self.dealt for i in batch if not zero_gradient[i]]
        return sum(row.response_length for item in trained for row in item.rows)


class ExperienceLoader:
    """Loader of the micro-batches of `iteration`, which the caller advances.

    Lightning's `current_epoch` cannot take its place: after a resume it is behind by one here. `collecting` is the
    context in which the model samples and scores outside of a training step (autocast). After an iteration, `outcome`
    says what there was to train on. A signal makes it raise `Stopped` before it yields anything.
    """

    def __init__(
        self, source: ExperienceSource, plan: Plan, clock: Clock, collecting: Callable[[], AbstractContextManager]
    ) -> None:
        self.source, self.plan, self.clock, self.collecting = source, plan, clock, collecting
        self.iteration = 0
        self.outcome: Outcome | None = None

    def __iter__(self) -> Iterator[MicroBatch | PairBatch]:
        with self.collecting(), torch.no_grad():
            experience = distributed.leave_together(self._collect)
        dealt = self.plan.optimiser_batches(experience, self.iteration)
        self.outcome = Outcome(experience, dealt, self.plan.minibatches * self.plan.epochs - len(dealt))
        yield from self.plan.micro_batches(experience, dealt)

    def _collect(self) -> Experience:
        signals.check()
        return self.source(self.iteration, self.clock)
