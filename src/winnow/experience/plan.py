"""Which rows meet in which optimiser batch, and how each is cut to fit memory.

Optimiser batches depend on the seed and the kept rows alone; ranks and the token budget only cut them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from winnow.experience import ranks
from winnow.experience.collate import collate, collate_pairs
from winnow.experience.experience import Experience
from winnow.objectives import Aggregate
from winnow.rng import permutation, seed_of
from winnow.types import Batch, Pair, PairBatch, Row


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


def within_budget(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Places of `lengths`, longest first, in groups of at most `token_budget` padded tokens and at least one row."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= token_budget:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


@dataclass(frozen=True, slots=True)
class Plan:
    """How an iteration's experience becomes micro-batches."""

    minibatches: int
    epochs: int
    token_budget: int
    aggregate: Aggregate
    seed: int
    pad_id: int

    def optimiser_batches(self, experience: Experience, iteration: int) -> list[list[int]]:
        """Those with something to learn; the empty and the inert are left out, and no step is taken for them."""
        seed = seed_of(self.seed, "update", iteration)
        dealt = deal(len(experience.items), self.minibatches, self.epochs, seed)
        return [batch for batch in dealt if not all(experience.inert[i] for i in batch)]

    def micro_batches(self, experience: Experience, dealt: list[list[int]]) -> Iterator[Batch | PairBatch]:
        """This rank's micro-batches, the same number for every optimiser batch and on every rank."""
        cut = [self._cut(experience, batch) for batch in dealt]
        most = max((len(groups) for shares in cut for groups in shares), default=0)
        for batch, shares in zip(dealt, cut, strict=True):
            items = [experience.items[i] for i in batch]
            groups = shares[ranks.rank()]
            # A rank with fewer micro-batches repeats a short row at weight zero, for all ranks must step together.
            filler = [min(range(len(items)), key=lambda i: _length(items[i]))]
            for turn in range(most):
                idle = turn >= len(groups)
                chosen = [items[i] for i in (filler if idle else groups[turn])]
                yield self._collate(chosen, items, idle, parts=most * ranks.world_size())

    def _cut(self, experience: Experience, batch: list[int]) -> list[list[list[int]]]:
        """[rank][micro-batch] -> places in the optimiser batch; long rows first, dealt in turn to the ranks."""
        lengths = [_length(experience.items[i]) for i in batch]
        order = sorted(range(len(batch)), key=lambda i: -lengths[i])
        shares = [order[r :: ranks.world_size()] for r in range(ranks.world_size())]
        return [
            [[share[i] for i in group] for group in within_budget([lengths[i] for i in share], self.token_budget)]
            for share in shares
        ]

    def _collate(
        self, chosen: Sequence[Row | Pair], whole: Sequence[Row | Pair], idle: bool, parts: int
    ) -> Batch | PairBatch:
        if isinstance(chosen[0], Pair):
            pairs = [item for item in chosen if isinstance(item, Pair)]
            weight = torch.full((len(pairs),), 0.0 if idle else 1.0)
            return collate_pairs(pairs, weight, float(len(whole)), parts, self.pad_id)
        rows = [item for item in chosen if isinstance(item, Row)]
        weight, _ = self.aggregate(_response_lengths(rows))
        _, counts = self.aggregate(_response_lengths(whole))
        return collate(rows, weight * (not idle), float(counts.sum()), parts, self.pad_id)


def _length(item: Row | Pair) -> int:
    if isinstance(item, Pair):
        return 2 * max(len(item.chosen.token_ids), len(item.rejected.token_ids))
    return len(item.token_ids)


def _response_lengths(rows: Sequence[Row | Pair]) -> torch.Tensor:
    return torch.tensor([row.response_length for row in rows if isinstance(row, Row)])
