"""Optimiser batches and micro-batches: an iteration's rows or pairs dealt, sharded, cut to a budget and collated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from winnow import distributed
from winnow.errors import ConfigError
from winnow.experience.evidence import Evidence
from winnow.experience.left_out import LeftOut
from winnow.objectives import Aggregate
from winnow.packed import MAX_PROMPT_REPEATS, PromptedSequence, pack
from winnow.rng import permutation, seed_of
from winnow.rule import both_returned, called, given, spoken_name
from winnow.run_logs.run_files import SampleRecord
from winnow.types import Batch, MicroBatch, Pair, PairBatch, Row


@dataclass(frozen=True, slots=True)
class Experience:
    """The data of one iteration: rows or pairs to train on, a record of each sampled response, and metrics.

    Records go to `samples/`, metrics to `metrics.jsonl`. `zero_gradient` says for each item whether its gradient is
    zero by construction, e.g. because its advantage is zero and no KL term or entropy bonus is in the loss. `evidence`
    is None for demonstrations, which nobody sampled. `left_out` are the rows with a number that is not finite; they are
    not among the items.
    """

    items: list[Row] | list[Pair]
    zero_gradient: list[bool]
    records: list[SampleRecord] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    evidence: Evidence | None = None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Upper bound on the tokens of one forward.

    Packed, each token counts once, a shared prompt included. Padded, every row counts as long as the longest.
    """

    tokens: int
    packed: bool

    def cut(self, items: Sequence[Sequence[PromptedSequence]]) -> list[list[int]]:
        """Indices of `items` in groups that each fit the budget; an item that alone exceeds it is a group of its own.

        The rows of one item (both sides of a preference pair) stay together. Items are taken longest first; if packed,
        items of one prompt are neighbours, so that they share its tokens. Within a group the longest come first, which
        gives well-filled attention blocks.
        """
        groups: list[list[int]] = []
        load = _Load()
        for place in self._order(items):
            if not groups or not self._fits(load.with_rows(items[place])):
                groups.append([])
                load = _Load()
            groups[-1].append(place)
            load = load.with_rows(items[place])
            load.prompts.update(map(_prompt_of, items[place]))  # in place: copying the set for each item is quadratic
        return [sorted(group, key=lambda i: -_longest_row(items[i])) for group in groups]

    def _fits(self, load: "_Load") -> bool:
        if not self.packed:
            return load.padded <= self.tokens
        # Attention repeats a shared prompt before each of its responses, which `once` does not see.
        return load.once <= self.tokens and load.padded <= MAX_PROMPT_REPEATS * self.tokens

    def _order(self, items: Sequence[Sequence[PromptedSequence]]) -> list[int]:
        lengths = [_longest_row(item) for item in items]
        by_length = sorted(range(len(items)), key=lambda i: -lengths[i])
        if not self.packed:
            return by_length
        first: dict[tuple[int, ...], int] = {}
        for rank, i in enumerate(by_length):
            first.setdefault(_prompt_of(items[i][0]), rank)
        return sorted(by_length, key=lambda i: first[_prompt_of(items[i][0])])


@dataclass(slots=True)
class _Load:
    """The size of one forward: tokens without repetition (`once`), rows, longest row, and the prompts it has."""

    once: int = 0
    rows: int = 0
    longest: int = 0
    prompts: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def padded(self) -> int:
        return self.rows * self.longest

    def with_rows(self, rows: Sequence[PromptedSequence]) -> "_Load":
        new = {_prompt_of(row) for row in rows} - self.prompts
        responses = sum(len(row.token_ids) - row.prompt_length for row in rows)
        return _Load(
            self.once + responses + sum(map(len, new)),
            self.rows + len(rows),
            max(self.longest, _longest_row(rows)),
            self.prompts,
        )


def _prompt_of(row: PromptedSequence) -> tuple[int, ...]:
    return row.token_ids[: row.prompt_length]


def _longest_row(rows: Sequence[PromptedSequence]) -> int:
    return max(len(row.token_ids) for row in rows)


def collate(
    rows: Sequence[Row],
    weight: Float[Tensor, " b"],
    denominator: float,
    num_micro_batches: int,
    counts: Float[Tensor, " b"] | None = None,
) -> MicroBatch:
    """A micro-batch of rows whose tokens weigh `weight`. A field of `Batch` is present if every row has it.

    `counts` are the rows' parts of the `denominator`.
    """
    packed = pack(rows)
    terms = _terms(rows, packed.response, weight, denominator, num_micro_batches, counts)
    return MicroBatch(packed, terms, tuple(rows))


def collate_pairs(
    pairs: Sequence[Pair],
    weight: Float[Tensor, " b"],
    denominator: float,
    num_micro_batches: int,
    counts: Float[Tensor, " b"] | None = None,
) -> PairBatch:
    """A micro-batch of preference pairs, both sides in one forward, so that a pair's prompt is computed once."""
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    packed = pack([*chosen, *rejected])
    sides = packed.response.chunk(2)
    return PairBatch(
        packed,
        _terms(chosen, sides[0], weight, denominator, num_micro_batches, counts),
        _terms(rejected, sides[1], weight, denominator, num_micro_batches, counts),
        tuple(pairs),
    )


def without_items(batch: MicroBatch | PairBatch, keep: Sequence[int]) -> MicroBatch | PairBatch:
    """The micro-batch of the rows or pairs `keep` alone, on the CPU. The denominator stays that of the whole batch."""
    terms = batch.terms.to("cpu")
    counts = None if terms.counts is None else terms.counts[list(keep)]
    weight, items = terms.row_weight[list(keep)], [batch.items[i] for i in keep]
    return _collated(items, weight, terms.denominator, terms.num_micro_batches, counts)


def _terms(
    rows: Sequence[Row],
    response: Tensor,
    weight: Float[Tensor, " b"],
    denominator: float,
    num_micro_batches: int,
    counts: Float[Tensor, " b"] | None,
) -> Batch:
    width = response.shape[1]
    return Batch(
        response=response,
        row_weight=weight,
        denominator=denominator,
        num_micro_batches=num_micro_batches,
        advantages=_padded_matrix([row.advantage for row in rows], width),
        old_logprobs=_padded_matrix([row.old_logprobs for row in rows], width),
        sampler_logprobs=_padded_matrix([row.sampler_logprobs for row in rows], width),
        ref_logprobs=_padded_matrix([row.ref_logprobs for row in rows], width),
        values=_padded_matrix([row.values for row in rows], width),
        returns=_padded_matrix([row.returns for row in rows], width),
        counts=counts,
    )


def _padded_matrix(values: Sequence[Tensor | None], width: int) -> Float[Tensor, "b s"] | None:
    if any(value is None for value in values):
        return None
    return torch.stack([pad(value, (0, width - len(value))) for value in values if value is not None])


def deal(count: int, minibatches: int, epochs: int, seed: int) -> list[list[int]]:
    """The indices of `count` items, dealt into `minibatches` optimiser batches per epoch, for all epochs.

    Items are shuffled anew in each epoch. The sizes of batches differ by at most 1; with fewer items than batches some
    are empty. `deal(5, 2, 1, seed)` is a list like `[[3, 0, 4], [2, 1]]`.
    """
    batches = []
    for epoch in range(epochs):
        order = permutation(seed_of(seed, "deal", epoch), count)
        bounds = [round(i * count / minibatches) for i in range(minibatches + 1)]
        batches += [order[a:b] for a, b in pairwise(bounds)]
    return batches


@dataclass(frozen=True, slots=True)
class Plan:
    """The division of an iteration's experience into optimiser batches and micro-batches, the same on every rank."""

    minibatches: int
    epochs: int
    budget: TokenBudget
    aggregate: Aggregate
    seed: int

    def optimiser_batches(self, experience: Experience, iteration: int) -> list[list[int]]:
        """The optimiser batches to step, as lists of item indices.

        Batches that are empty, or in which every gradient is zero by construction, are left out: on a step with a zero
        gradient AdamW would still move the weights, by momentum and weight decay.
        """
        seed = seed_of(self.seed, "update", iteration)
        dealt = deal(len(experience.items), self.minibatches, self.epochs, seed)
        return [batch for batch in dealt if not all(experience.zero_gradient[i] for i in batch)]

    def micro_batches(self, experience: Experience, dealt: list[list[int]]) -> Iterator[MicroBatch | PairBatch]:
        """This rank's micro-batches, equally many for every optimiser batch and on every rank.

        Items without a gradient count in the denominator, but are not forwarded. The number of micro-batches has to be
        the same throughout: Lightning's `accumulate_grad_batches` is constant within an epoch, and ranks synchronise
        their gradients together.
        """
        live = [[i for i in batch if not experience.zero_gradient[i]] for batch in dealt]
        cut = [self._cut(experience.items, batch) for batch in live]
        most = max((len(groups) for shares in cut for groups in shares), default=0)
        for batch, learning, shares in zip(dealt, live, cut, strict=True):
            # Of the whole batch, because a rule may read which of its rows are of one prompt.
            weights, counts = self._weights_and_counts([experience.items[i] for i in batch])
            place = {i: n for n, i in enumerate(batch)}
            groups = shares[distributed.rank()]
            # Where there are fewer groups, the shortest item that learns is repeated at weight zero: it adds nothing to
            # the gradient, but every rank has a forward and a backward to take part in.
            filler = [min(learning, key=lambda i: _length(experience.items[i]))]
            for turn in range(most):
                idle = turn >= len(groups)
                rows = filler if idle else groups[turn]
                own = [place[i] for i in rows]
                live_now, total = float(not idle), most * distributed.world_size()
                yield _collated(
                    [experience.items[i] for i in rows],
                    weights[own] * live_now,
                    float(counts.sum()),
                    total,
                    counts[own] * live_now,
                )

    def _cut(self, items: Sequence[Row | Pair], batch: list[int]) -> list[list[list[int]]]:
        """[rank][micro-batch] → item indices of one optimiser batch."""
        shares = [[batch[i] for i in share] for share in _shards([items[i] for i in batch])]
        return [
            [[share[i] for i in group] for group in self.budget.cut([items[i].rows for i in share])] for share in shares
        ]

    def _weights_and_counts(self, items: Sequence[Row | Pair]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The weight of each item's tokens and its part of the denominator; both are 1 for a preference pair."""
        if any(isinstance(item, Pair) for item in items):
            return torch.ones(len(items)), torch.ones(len(items))
        rows = [item for item in items if isinstance(item, Row)]
        lengths = torch.tensor([row.response_length for row in rows])
        number: dict[tuple[int, ...], int] = {}
        prompts = torch.tensor([number.setdefault(_prompt_of(row), len(number)) for row in rows])
        result = called("aggregate", self.aggregate, lengths, **given(self.aggregate, prompts=prompts))
        weights, counts = both_returned("aggregate", self.aggregate, result, lengths)
        if len(rows) and not (_is_weight(weights) and _is_weight(counts)):
            raise ConfigError(
                f"algo.aggregate: {spoken_name(self.aggregate)} returned weights or parts of the denominator that "
                "are negative, not finite or all 0, of which no mean can be made; winnow check tries such a rule"
            )
        return weights, counts


def _is_weight(numbers: Float[Tensor, " n"]) -> bool:
    return bool((numbers.isfinite() & (numbers >= 0)).all() and numbers.any())


def _collated(
    items: Sequence[Row | Pair],
    weights: Float[Tensor, " n"],
    denominator: float,
    num_micro_batches: int,
    counts: Float[Tensor, " n"] | None,
) -> MicroBatch | PairBatch:
    pairs = [item for item in items if isinstance(item, Pair)]
    if pairs:
        return collate_pairs(pairs, weights, denominator, num_micro_batches, counts)
    return collate([item for item in items if isinstance(item, Row)], weights, denominator, num_micro_batches, counts)


def _shards(items: Sequence[Row | Pair]) -> list[list[int]]:
    """[rank] → indices of `items`, balanced by tokens: the largest part goes to the rank that has the fewest tokens.

    Items of one prompt stay on one rank, where they share its tokens, unless they are more than one rank's part of the
    whole.
    """
    if distributed.world_size() == 1:
        return [list(range(len(items)))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(_prompt_of(item.rows[0]), []).append(i)
    most = max(1, len(items) // distributed.world_size())
    parts = [members[a : a + most] for members in groups.values() for a in range(0, len(members), most)]
    shares: list[list[int]] = [[] for _ in range(distributed.world_size())]
    loads = [0] * len(shares)
    sizes = [sum(_length(items[i]) for i in part) for part in parts]
    for part, size in sorted(zip(parts, sizes, strict=True), key=lambda pair: -pair[1]):
        least = loads.index(min(loads))
        shares[least] += part
        loads[least] += size
    return shares


def _length(item: Row | Pair) -> int:
    return sum(len(row.token_ids) for row in item.rows)
