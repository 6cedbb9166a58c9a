"""Reward: a number for each judged response, with named parts, and the verdict that counts as success."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from winnow.types import Completion, Prompt, Rewarded
from winnow.verdict import Judgement

Settings = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class JudgedGroup:
    """The samples of one prompt in order: their completions, decoded texts, judgements, and seeds of random draws."""

    completions: tuple[Completion, ...]
    texts: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewards:
    """The rewards of groups of responses, and the values of each metric that reward functions logged.

    `weights` are those of the functions, in their order; empty where the verdict alone decides.
    """

    groups: list[tuple[Rewarded, ...]]
    logged: Mapping[str, Sequence[float]] = field(default_factory=dict)
    weights: tuple[float, ...] = ()


def kind_of_loss(reason: str) -> str:
    """The function and the kind of its error in the reason of a lost reward: `short: ValueError` of
    `short: ValueError: …`."""
    return ":".join(reason.split(":")[:2])


@runtime_checkable
class Reward(Protocol):
    """Interface of rewards: a scale of verdicts, or weighted functions."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the parts; none where the verdict alone decides."""
        ...

    @property
    def success(self) -> Settings | None:
        """The rule of success where it is not the verifier's."""
        ...

    def rewards_of(self, prompts: Sequence[Prompt], groups: Sequence[JudgedGroup], iteration: int) -> Rewards:
        """The rewards of the samples of each prompt. `iteration` counts from 0."""
        ...

    def again(self, judgement: Judgement, before: Rewarded) -> Rewarded:
        """The reward of a response that was judged again, computed without calling functions: `before` has their
        values."""
        ...
