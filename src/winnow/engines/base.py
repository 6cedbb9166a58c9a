"""What every sampler promises."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from transformers import PreTrainedModel

from winnow.types import Completion, Prompt, Sampling

OnCompletion = Callable[[int, int, Completion], object]
"""Told of sample g of prompt p when it has ended, by engines that know before all have."""


def ignore_completion(prompt: int, sample: int, completion: Completion) -> None:
    """For those who can wait for the whole."""


@runtime_checkable
class Engine(Protocol):
    """Token ids in, token ids out; it knows no tokenizer, no reward and no algorithm."""

    exact: bool
    """Whether its log-probabilities are the training forward's up to rounding, so that none need be recomputed."""

    version: int
    """The policy version that the next samples come from."""

    def sync(self, model: PreTrainedModel, version: int) -> None:
        """Sample from these weights from now on; a version already held costs nothing."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        done: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        """G completions per prompt, where `seeds[p][g]` alone decides the draws of sample g of prompt p."""
        ...
