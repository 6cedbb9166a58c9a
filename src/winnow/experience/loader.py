"""Iterating over this loader IS one iteration: collect, rank, and hand out what there is to fine-tune on.

It is a plain iterable without `__len__`: Lightning then asks for one iterator an epoch, no sooner than the epoch before
has ended, and takes as many batches as come, even none.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from winnow.experience.batching import Experience, Plan
from winnow.experience.metrics import Clock
from winnow.types import MicroBatch, Pair, PairBatch, Row

ExperienceSource = Callable[[int, Clock], Experience]
"""Iteration number (from 0) to what there is to learn from it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an iteration had to learn from, in which optimiser batches, and how many of those were left out."""

    experience: Experience
    dealt: list[list[int]]
    skipped: int

    @property
    def tokens_trained(self) -> int:
        """Response tokens under a gradient, counted once an epoch."""
        items, zero_gradient = self.experience.items, self.experience.zero_gradient
        return sum(_response_tokens(items[i]) for batch in self.dealt for i in batch if not zero_gradient[i])


def _response_tokens(item: Row | Pair) -> int:
    if isinstance(item, Pair):
        return item.chosen.response_length + item.rejected.response_length
    return item.response_length


class ExperienceLoader:
    """`iteration` is ours: Lightning's `current_epoch` is stale by one here after a resume.

    `collecting` is the context under which the model samples and scores outside of a training step (autocast).
    """

    def __init__(
        self, source: ExperienceSource, plan: Plan, clock: Clock, collecting: Callable[[], AbstractContextManager]
    ) -> None:
        self.source, self.plan, self.clock, self.collecting = source, plan, clock, collecting
        self.iteration = 0
        self.outcome: Outcome | None = None

    def __iter__(self) -> Iterator[MicroBatch | PairBatch]:
        with self.collecting(), torch.no_grad():
            experience = self.source(self.iteration, self.clock)
        dealt = self.plan.optimiser_batches(experience, self.iteration)
        self.outcome = Outcome(experience, dealt, self.plan.minibatches * self.plan.epochs - len(dealt))
        yield from self.plan.micro_batches(experience, dealt)
