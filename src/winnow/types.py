"""Data types of an iteration: prompts, completions, rollouts, rows and pairs to train on, micro-batches, losses.

Letters in shapes: P prompts, G samples per prompt (of a ragged group, at most), N drawn samples or rows (P·G where no
group is ragged), B rows of a micro-batch, S positions. Position s of
every (B, S) tensor describes token s: its log-probability given the tokens before it, its mask, its advantage. The
shift by one between a hidden state and the token it predicts happens once, in `winnow.packed`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.columns import NO_COLUMNS, Columns, Json
from winnow.packed import OnDevice, Packed
from winnow.verdict import Judgement


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered problem with its gold answer: `Prompt("arithmetic:17", (4, 7, 13), "4+7=", "11")`.

    `key` identifies the problem in every seed that its samples are drawn with. `columns` are all fields of the row that
    the problem was read from, by the names that its file has; a generated problem has none. `problem` is the problem's
    own text, before any template, and `turns` are its messages (role, content) if it is a chat.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str
    answer: str
    columns: Columns = NO_COLUMNS
    problem: str = ""
    turns: tuple[tuple[str, str], ...] = ()


class Finish(StrEnum):
    """The reason why a completion ended: an EOS token, which is part of the response, or the limit on its length."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled response: T token ids, and the sampler's log-probability and entropy (nats) of each draw.

    Both are of the distribution that was sampled from, temperature included. Example, two tokens of which the last is
    an EOS: `Completion((9, 2), tensor([-0.1, -0.3]), tensor([0.4, 0.2]), Finish.EOS)`.
    """

    token_ids: tuple[int, ...]
    logprobs: Float[Tensor, " t"]
    entropies: Float[Tensor, " t"]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters: a temperature and the most tokens that a response may have.

    There is no top-p and no top-k: with those the distribution that is sampled would not be the one that is trained.
    """

    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The reward of one response, and the judgement that says whether it is a success.

    `total` is the number that advantages see. With reward functions it is the weighted sum of `parts`, the number of
    each function or None, and `extra` holds the columns that they log. A response whose reward is lost has a total of
    NaN, and `lost` says why: `length: ValueError: …`.
    """

    total: float
    judgement: Judgement
    parts: Mapping[str, float | None] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """The facts of P × G samples that a rule of selection or advantage may read beside their rewards.

    `lengths` are tokens of the responses, `truncated` says which of them ended at the limit on their length, and
    `parts` are the M rewards of each response before they are weighed and added, by the `weights`; a part that a
    function has left open is 0. Where the verdict alone decides there is one part, the reward itself.
    """

    correct: Bool[Tensor, "p g"]
    lengths: Int[Tensor, "p g"]
    truncated: Bool[Tensor, "p g"]
    parts: Float[Tensor, "p g m"]
    weights: Float[Tensor, " m"]

    def at(self, place: tuple[Tensor, Tensor]) -> "SampleFacts":
        """The facts of the samples whose prompts and places in the group are `place`, in its shape."""
        matrices = (self.correct[place], self.lengths[place], self.truncated[place], self.parts[place])
        return SampleFacts(*matrices, self.weights)

    @property
    def offered(self) -> dict[str, Tensor]:
        """The facts by the names that rules know them by."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_verdicts(cls, rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> "SampleFacts":
        """The facts of samples of which only verdicts are known: all of one length, none truncated."""
        ones = torch.ones_like(rewards, dtype=torch.long)
        return cls(correct, ones, torch.zeros_like(correct), rewards.unsqueeze(2), torch.ones(1))


@dataclass(frozen=True, slots=True)
class Rollouts:
    """P prompts with up to G judged completions each. `rewards` are their rewards before any KL term is subtracted.

    Prompts may have different numbers of samples. Matrices are as wide as the largest group; where nothing was drawn, a
    reward is NaN and a sample not correct. `chosen` are the samples that the collector passes on to the algorithm's own
    selection, None for all of them; `rounds` says in how many rounds it drew.

    `rewarded` has the parts of the rewards, and `logged` the means of the metrics that reward functions logged; both
    are empty where nothing was rewarded. `sampler` has figures of the sampler's distance from the policy that drew,
    where that is no longer the one that is trained. `weights` are those of the reward functions.
    """

    prompts: tuple[Prompt, ...]
    completions: tuple[tuple[Completion, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    judgements: tuple[tuple[Judgement, ...], ...]
    rewards: Float[Tensor, "p g"]
    correct: Bool[Tensor, "p g"]
    policy_version: int
    rewarded: tuple[tuple[Rewarded, ...], ...] = ()
    logged: Mapping[str, float] = field(default_factory=dict)
    sampler: Mapping[str, float] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    chosen: Bool[Tensor, "p g"] | None = None
    rounds: int = 1

    @property
    def facts(self) -> SampleFacts:
        """The facts that rules may read of the samples beside their rewards; 0 where nothing was drawn."""
        parts, weights = self.rewards.unsqueeze(2), torch.ones(1)
        if self.weights:
            values = [[each or 0.0 for each in r.parts.values()] for group in self.rewarded for r in group]
            parts, weights = torch.zeros(*self.rewards.shape, len(self.weights)), torch.tensor(self.weights)
            parts[self.drawn] = torch.tensor(values)
        completions = self.all_completions
        return SampleFacts(
            self.correct,
            self.matrix(torch.tensor([len(c.token_ids) for c in completions])),
            self.matrix(torch.tensor([c.finish is Finish.LENGTH for c in completions])),
            parts,
            weights,
        )

    @property
    def sizes(self) -> Int[Tensor, " p"]:
        """The number of samples of each prompt."""
        return torch.tensor([len(group) for group in self.completions])

    @property
    def drawn(self) -> Bool[Tensor, "p g"]:
        """Whether there is such a sample."""
        return torch.arange(self.rewards.shape[1]) < self.sizes[:, None]

    @property
    def kept(self) -> Bool[Tensor, "p g"]:
        """The samples that the collector passes on to the algorithm's own selection."""
        return self.drawn if self.chosen is None else self.chosen & self.drawn

    @property
    def places(self) -> list[tuple[int, int]]:
        """(p, g) of each row number."""
        return [(p, g) for p, group in enumerate(self.completions) for g in range(len(group))]

    def rows(self, matrix: Tensor) -> Tensor:
        """The entries of a (P, G) matrix that belong to drawn samples, by row number."""
        return matrix[self.drawn]

    def matrix(self, rows: Tensor, absent: float = 0) -> Tensor:
        """The inverse of `rows`: a (P, G) matrix that is `absent` where nothing was drawn."""
        found = torch.full(self.rewards.shape, absent, dtype=rows.dtype)
        found[self.drawn] = rows
        return found

    def by_size(self) -> Iterator[tuple[Int[Tensor, "q h"], Int[Tensor, "q h"]]]:
        """Indices of the (Q, H) parts of a (P, G) matrix whose Q prompts have H samples each."""
        sizes = self.sizes
        for size in sorted({*sizes.tolist()} - {0}):
            prompts = (sizes == size).nonzero().expand(-1, size)
            yield prompts, torch.arange(size).expand_as(prompts)

    @property
    def all_completions(self) -> list[Completion]:
        """All N completions, prompt by prompt; their order is that of row numbers."""
        return [completion for group in self.completions for completion in group]


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of S tokens, a prompt and its response, with what the loss reads of it.

    Tensors are 0 on the prompt, and None where the algorithm does not read them. Of a row that is trained on,
    `advantage` is None only if it belongs to a preference pair.
    """

    token_ids: tuple[int, ...]
    prompt_length: int
    advantage: Float[Tensor, " s"] | None = None
    old_logprobs: Float[Tensor, " s"] | None = None
    ref_logprobs: Float[Tensor, " s"] | None = None
    values: Float[Tensor, " s"] | None = None
    returns: Float[Tensor, " s"] | None = None
    sampler_logprobs: Float[Tensor, " s"] | None = None
    """The sampler's own, where a clipping rule names them and they are not the old ones."""

    @property
    def rows(self) -> tuple["Row", ...]:
        """The row itself, as `Pair.rows` gives both of its rows."""
        return (self,)

    @property
    def response_length(self) -> int:
        return len(self.token_ids) - self.prompt_length


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair: a chosen and a rejected response to one prompt."""

    chosen: Row
    rejected: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Batch(OnDevice):
    """The numbers that the loss of one micro-batch reads: mask, weights, advantages, log-probabilities, values.

    `row_weight` and `denominator` come from the aggregation: a token has weight `row_weight / denominator`, and the
    denominator sums over the whole optimiser batch, all its micro-batches and all ranks. `num_micro_batches` is the
    number of micro-batches, over all ranks, that make up the optimiser batch.
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
    counts: Float[Tensor, " b"] | None = None
    """Each row's part of the denominator, which goes where a row has to be left out of the update. None: 1 each."""
    sampler_logprobs: Float[Tensor, "b s"] | None = None


@dataclass(frozen=True, slots=True)
class MicroBatch(OnDevice):
    """Packed rows for one forward, and the terms of their loss; `items` are the same rows before they were packed."""

    rows: Packed
    terms: Batch
    items: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class PairBatch(OnDevice):
    """Packed rows of B preference pairs, first all chosen rows and then all rejected ones, in the same order.

    `chosen.denominator` is the number of pairs in the optimiser batch.
    """

    rows: Packed
    chosen: Batch
    rejected: Batch
    items: tuple[Pair, ...] = ()

    @property
    def sides(self) -> dict[str, Batch]:
        return {"chosen": self.chosen, "rejected": self.rejected}

    @property
    def terms(self) -> Batch:
        """The terms of the chosen rows, whose weights, counts and denominator are those of the pairs."""
        return self.chosen


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean that is not divided yet: a total and a count, so that means over micro-batches and ranks add up exactly.

    A mean of per-micro-batch means would weigh tokens by the size of their micro-batch. Scalar tensors stay on their
    device until `value` is read, so that a micro-batch does not wait for its metrics.
    """

    total: float | Tensor
    count: float | Tensor

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def only_total(self) -> "Mean":
        """The total with count 0, to add a second term to a mean over the same items."""
        return Mean(self.total, 0)

    @property
    def value(self) -> float:
        """total / count, or the total itself where the count is 0: then it is a number of events."""
        total, count = float(self.total), float(self.count)
        return total / count if count else total

    @property
    def read(self) -> "Mean":
        """The same with Python numbers instead of tensors."""
        return Mean(float(self.total), float(self.count))


@dataclass(frozen=True, slots=True)
class Loss:
    """The scalar to differentiate, the metrics of its micro-batch, and the part of each row or pair in the scalar.

    `parts` has no gradient.
    """

    value: Float[Tensor, ""]
    metrics: dict[str, Mean]
    parts: Float[Tensor, " b"]
