"""What crosses module boundaries. P prompts, G samples per prompt, N = P·G rows, B rows of a micro-batch, S positions.

Position s of every (B, S) tensor speaks about token s: its log-probability given the tokens before it, its mask, its
advantage. The shift by one happens once, in `packed.pack`.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.packed import Packed
from winnow.verdict import Judgement


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered problem: `Prompt("arithmetic:17", (4, 7, 13), "4+7=", "11")`. `key` names it in every seed."""

    key: str
    token_ids: tuple[int, ...]
    text: str
    answer: str


class Finish(StrEnum):
    """Why sampling ended: an end-of-sequence token was drawn (and is part of the response), or the budget ran out."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Completion:
    """One response, token in and token out: ids, the sampler's log-probability and the entropy of each draw.

    `Completion((9, 2), tensor([-0.1, -0.3]), tensor([0.4, 0.2]), Finish.EOS)`: two tokens, the last of them an EOS.
    Log-probabilities and entropies (nats) are those of the distribution sampled from, temperature included.
    """

    token_ids: tuple[int, ...]
    logprobs: Float[Tensor, " t"]
    entropies: Float[Tensor, " t"]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw: temperature only (no top-p, no top-k), so that what is sampled is what is trained."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Rollouts:
    """P prompts with G completions each, judged. `rewards` are the verdicts' rewards, before any shaping."""

    prompts: tuple[Prompt, ...]
    completions: tuple[tuple[Completion, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    judgements: tuple[tuple[Judgement, ...], ...]
    rewards: Float[Tensor, "p g"]
    correct: Bool[Tensor, "p g"]
    policy_version: int


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to train on, before padding: prompt and response ids, and (S,) tensors that are 0 on the prompt.

    `advantage` is None only for members of a preference pair.
    """

    token_ids: tuple[int, ...]
    prompt_length: int
    advantage: Float[Tensor, " s"] | None = None
    old_logprobs: Float[Tensor, " s"] | None = None
    ref_logprobs: Float[Tensor, " s"] | None = None
    values: Float[Tensor, " s"] | None = None
    returns: Float[Tensor, " s"] | None = None

    @property
    def response_length(self) -> int:
        return len(self.token_ids) - self.prompt_length


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen and a rejected response to one prompt."""

    chosen: Row
    rejected: Row


class _OnDevice:
    """Lightning moves an object that has `.to` as it is; a frozen dataclass without one it refuses."""

    __slots__ = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        moved = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in fields(self)  # pyright: ignore[reportArgumentType]
            if isinstance(value := getattr(self, f.name), Tensor | Packed | Batch)
        }
        return replace(self, **moved)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True)
class Batch(_OnDevice):
    """What the objective reads of one micro-batch's rows.

    `row_weight` and `denominator` come from the aggregation: a token counts `row_weight / denominator`, where the
    denominator sums over the whole optimiser batch, all its micro-batches and all ranks. `num_micro_batches` is how many
    micro-batches, over all ranks, make up the optimiser batch.
    """

    response: Bool[Tensor, "b s"]
    row_weight: Float[Tensor, " b"]
    denominator: float
    num_micro_batches: int
    advantages: Float[Tensor, "b s"] | None = None
    old_logprobs: Float[Tensor, "b s"] | None = None
    ref_logprobs: Float[Tensor, "b s"] | None = None
    values: Float[Tensor, "b s"] | None = None
    returns: Float[Tensor, "b s"] | None = None


@dataclass(frozen=True, slots=True)
class MicroBatch(_OnDevice):
    """What one forward reads, and what its loss is made of."""

    rows: Packed
    terms: Batch


@dataclass(frozen=True, slots=True)
class PairBatch(_OnDevice):
    """All chosen rows, then all rejected ones in the same order; `chosen.denominator` counts the optimiser batch's pairs."""

    rows: Packed
    chosen: Batch
    rejected: Batch


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean that is not yet divided: means of means would bring the denominator problem back through the log.

    Scalar tensors stay on their device until `value` is read, so that no micro-batch waits for its figures.
    """

    total: float | Tensor
    count: float | Tensor

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def only_total(self) -> "Mean":
        """To add a second term to a mean over the same things."""
        return Mean(self.total, 0)

    @property
    def value(self) -> float:
        """A total that nothing was counted for is a number of events, and stays what it is."""
        total, count = float(self.total), float(self.count)
        return total / count if count else total

    @property
    def read(self) -> "Mean":
        """The same in numbers of the host."""
        return Mean(float(self.total), float(self.count))


@dataclass(frozen=True, slots=True)
class Loss:
    """The scalar to differentiate and what to log about it."""

    value: Float[Tensor, ""]
    metrics: dict[str, Mean]
