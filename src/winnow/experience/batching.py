"""What an iteration has to learn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from winnow import distributed
from winnow.objectives import Aggregate
from winnow.packed import MAX_PROMPT_REPEATS, PromptedSequence, pack
from winnow.rng import permutation, seed_of
from winnow.run_logs.run_files import SampleRecord
from winnow.types import Batch, MicroBatch, Pair, PairBatch, Row


@dataclass(frozen=True, slots=True)
class Experience:
    """Rows or pairs to train on, one record a sampled response for `samples/`, and figures for `metrics.jsonl`.

    `zero_gradient` says of each item whether its gradient is zero by construction.
    """

    items: list[Row] | list[Pair]
    zero_gradient: list[bool]
    records: list[SampleRecord] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """`tokens` of one forward: packed, each counted once; or else padded, each row as long as the longest."""

    tokens: int
    packed: bool

    def cut(self, items: Sequence[Sequence[PromptedSequence]]) -> list[list[int]]:
        """Places of `items`, whose rows stay together, in groups within the budget and of at least one item.

        Longest first; packed, items of one prompt beside each other.
        """
        groups: list[list[int]] = []
        load = _Load()
        for place in self._order(items):
            if not groups or not self._holds(load.with_rows(items[place])):
                groups.append([])
                load = _Load()
            groups[-1].append(place)
            load = load.with_rows(items[place])
            load.prompts.update(map(_prompt_of, items[place]))
        return [sorted(group, key=lambda i: -_longest_row(items[i])) for group in groups]

    def _holds(self, load: "_Load") -> bool:
        if not self.packed:
            return load.padded <= self.tokens
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
    """What one forward would compute; `prompts` are those whose tokens are counted."""

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


def collate(rows: Sequence[Row], weight: Float[Tensor, " b"], denominator: float, num_micro_batches: int) -> MicroBatch:
    """A field is present if every row has it."""
    packed = pack(rows)
    return MicroBatch(packed, _terms(rows, packed.response, weight, denominator, num_micro_batches))


def collate_pairs(
    pairs: Sequence[Pair], weight: Float[Tensor, " b"], denominator: float, num_micro_batches: int
) -> PairBatch:
    """Both sides of each pair in one forward; a pair's prompt is computed once."""
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    packed = pack([*chosen, *rejected])
    sides = packed.response.chunk(2)
    return PairBatch(
        packed,
        _terms(chosen, sides[0], weight, denominator, num_micro_batches),
        _terms(rejected, sides[1], weight, denominator, num_micro_batches),
    )


def _terms(
    rows: Sequence[Row], response: Tensor, weight: Float[Tensor, " b"], denominator: float, num_micro_batches: int
) -> Batch:
    width = response.shape[1]
    return Batch(
        response=response,
        row_weight=weight,
        denominator=denominator,
        num_micro_batches=num_micro_batches,
        advantages=_padded_matrix([row.advantage for row in rows], width),
        old_logprobs=_padded_matrix([row.old_logprobs for row in rows], width),
        ref_logprobs=_padded_matrix([row.ref_logprobs for row in rows], width),
        values=_padded_matrix([row.values for row in rows], width),
        returns=_padded_matrix([row.returns for row in rows], width),
    )


def _padded_matrix(values: Sequence[Tensor | None], width: int) -> Float[Tensor, "b s"] | None:
    if any(value is None for value in values):
        return None
    present = [value for value in values if value is not None]
    padded = present[0].new_zeros((len(present), width))
    for i, value in enumerate(present):
        padded[i, : len(value)] = value
    return padded


def deal(count: int, minibatches: int, epochs: int, seed: int) -> list[list[int]]:
    """`count` items into `minibatches` optimiser batches an epoch, shuffled anew each epoch, sizes equal to ±1.

    `deal(5, 2, 1, seed)` is a list like `[[3, 0, 4], [2, 1]]`.
    """
    batches = []
    for epoch in range(epochs):
        order = permutation(seed_of(seed, "deal", epoch), count)
        bounds = [round(i * count / minibatches) for i in range(minibatches + 1)]
        batches += [order[a:b] for a, b in pairwise(bounds)]
    return batches


@dataclass(frozen=True, slots=True)
class Plan:
    """How an iteration's experience becomes micro-batches."""

    minibatches: int
    epochs: int
    budget: TokenBudget
    aggregate: Aggregate
    seed: int

    def optimiser_batches(self, experience: Experience, iteration: int) -> list[list[int]]:
        """Those with something to learn; the empty and the zero_gradient are left out, and no step is taken for them."""
        seed = seed_of(self.seed, "update", iteration)
        dealt = deal(len(experience.items), self.minibatches, self.epochs, seed)
        return [batch for batch in dealt if not all(experience.zero_gradient[i] for i in batch)]

    def micro_batches(self, experience: Experience, dealt: list[list[int]]) -> Iterator[MicroBatch | PairBatch]:
        """This rank's micro-batches, the same number for every optimiser batch and on every rank.

        Inert items count in the denominator, and are never forwarded.
        """
        live = [[i for i in batch if not experience.zero_gradient[i]] for batch in dealt]
        cut = [self._cut(experience, batch) for batch in live]
        most = max((len(groups) for shares in cut for groups in shares), default=0)
        for batch, learning, shares in zip(dealt, live, cut, strict=True):
            denominator = self._denominator([experience.items[i] for i in batch])
            groups = shares[distributed.rank()]
            # A rank with fewer micro-batches repeats a short row at weight zero, for all ranks must step together.
            filler = [min(learning, key=lambda i: _length(experience.items[i]))]
            for turn in range(most):
                idle = turn >= len(groups)
                chosen = [experience.items[i] for i in (filler if idle else groups[turn])]
                yield self._collate(chosen, denominator, idle, num_micro_batches=most * distributed.world_size())

    def _cut(self, experience: Experience, batch: list[int]) -> list[list[list[int]]]:
        """[rank][micro-batch] -> items of the optimiser batch."""
        shares = [[batch[i] for i in share] for share in _shards([experience.items[i] for i in batch])]
        return [
            [[share[i] for i in group] for group in self.budget.cut([_rows_of(experience.items[i]) for i in share])]
            for share in shares
        ]

    def _denominator(self, whole: Sequence[Row | Pair]) -> float:
        rows = [item for item in whole if isinstance(item, Row)]
        if not rows:
            return float(len(whole))
        _, counts = self.aggregate(_response_lengths(rows))
        return float(counts.sum())

    def _collate(
        self, chosen: Sequence[Row | Pair], denominator: float, idle: bool, num_micro_batches: int
    ) -> MicroBatch | PairBatch:
        if isinstance(chosen[0], Pair):
            pairs = [item for item in chosen if isinstance(item, Pair)]
            weight = torch.full((len(pairs),), 0.0 if idle else 1.0)
            return collate_pairs(pairs, weight, denominator, num_micro_batches)
        rows = [item for item in chosen if isinstance(item, Row)]
        weight, _ = self.aggregate(_response_lengths(rows))
        return collate(rows, weight * (not idle), denominator, num_micro_batches)


def _shards(items: Sequence[Row | Pair]) -> list[list[int]]:
    """Places of `items` for each rank: what shares a prompt stays together, but for more than a rank's part of the whole;

    the most tokens go to the rank with the fewest.
    """
    if distributed.world_size() == 1:
        return [list(range(len(items)))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, item in enumerate(items):
        row = _rows_of(item)[0]
        groups.setdefault(row.token_ids[: row.prompt_length], []).append(i)
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


def _rows_of(item: Row | Pair) -> tuple[Row, ...]:
    return (item.chosen, item.rejected) if isinstance(item, Pair) else (item,)


def _length(item: Row | Pair) -> int:
    return sum(len(row.token_ids) for row in _rows_of(item))


def _response_lengths(rows: Sequence[Row]) -> torch.Tensor:
    return torch.tensor([row.response_length for row in rows])
