"""The interface of sampling engines: token ids in, completions out."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from winnow.types import Completion, Prompt, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OnCompletion = Callable[[int, int, Completion], object]
"""Callback (p, g, completion) for sample g of prompt p. Engines that know when a sample has ended call it at that
moment."""


def ignore_completion(prompt: int, sample: int, completion: Completion) -> None:
    """The callback that does nothing, for callers that only use the result of `generate`."""


@runtime_checkable
class Resting(Protocol):
    """Interface of an engine that holds memory which only sampling needs."""

    def rest(self) -> None:
        """Give that memory back until the next `sync`."""
        ...


def rest(engine: "Engine") -> None:
    """Have an engine give back what only sampling needs, if it holds any such memory."""
    if isinstance(engine, Resting):
        engine.rest()


@runtime_checkable
class Separate(Protocol):
    """Interface of an engine that samples elsewhere than on the trainer's devices."""

    separate: bool
    """Whether it can draw while the trainer computes."""

    def begin(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> Callable[[], list[list[Completion]]]:
        """Begin to draw what `generate` would, in a thread of its own. The function that is returned waits for it.

        Ranks call that function together, as they do `generate`; in the meantime they may exchange something else.
        The engine's `sync` waits for what is being drawn.
        """
        ...


def draws_beside(engine: "Engine") -> TypeGuard[Separate]:
    """Whether the engine can draw samples while the trainer computes."""
    return isinstance(engine, Separate) and engine.separate


@runtime_checkable
class Engine(Protocol):
    """A sampler of completions. It knows neither tokenizer nor reward nor algorithm."""

    exact: bool
    """Whether its log-probabilities equal the training forward's up to rounding, so that they serve as old ones."""

    version: int
    """The policy version that the next samples are drawn from; −1 before the first `sync`."""

    def sync(self, model: "PreTrainedModel", version: int) -> None:
        """Sample from the weights of `model` from now on. This is free if the engine already has `version`."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        on_completion: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        """Completions of each prompt, one per seed. The draws of sample g of prompt p depend on `seeds[p][g]` alone."""
        ...
