"""Which rows meet in which optimiser batch, and how each is cut to fit memory.

Optimiser batches depend on the seed and the kept rows alone; ranks and the token budget only cut them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from winnow.experience import ranks
from winnow.experience.budget import Budget
from winnow.experience.collate import collate, collate_pairs
from winnow.experience.experience import Experience
from winnow.objectives import Aggregate
from winnow.rng import permutation, seed_of
from winnow.types import MicroBatch, Pair, PairBatch, Row


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
    budget: Budget
    aggregate: Aggregate
    seed: int

    def optimiser_batches(self, experience: Experience, iteration: int) -> list[list[int]]:
        """Those with something to learn; the empty and the inert are left out, and no step is taken for them."""
        seed = seed_of(self.seed, "update", iteration)
        dealt = deal(len(experience.items), self.minibatches, self.epochs, seed)
        return [batch for batch in dealt if not all(experience.inert[i] for i in batch)]

    def micro_batches(self, experience: Experience, dealt: list[list[int]]) -> Iterator[MicroBatch | PairBatch]:
        """This rank's micro-batches, the same number for every optimiser batch and on every rank.

        Inert items count in the denominator, and are never forwarded.
        """
        live = [[i for i in batch if not experience.inert[i]] for batch in dealt]
        cut = [self._cut(experience, batch) for batch in live]
        most = max((len(groups) for shares in cut for groups in shares), default=0)
        for batch, learning, shares in zip(dealt, live, cut, strict=True):
            denominator = self._denominator([experience.items[i] for i in batch])
            groups = shares[ranks.rank()]
            # A rank with fewer micro-batches repeats a short row at weight zero, for all ranks must step together.
            filler = [min(learning, key=lambda i: _length(experience.items[i]))]
            for turn in range(most):
                idle = turn >= len(groups)
                chosen = [experience.items[i] for i in (filler if idle else groups[turn])]
                yield self._collate(chosen, denominator, idle, parts=most * ranks.world_size())

    def _cut(self, experience: Experience, batch: list[int]) -> list[list[list[int]]]:
        """[rank][micro-batch] -> items of the optimiser batch."""
        shares = [[batch[i] for i in share] for share in _shares([experience.items[i] for i in batch])]
        return [
            [[share[i] for i in group] for group in self.budget.cut([_rows(experience.items[i]) for i in share])]
            for share in shares
        ]

    def _denominator(self, whole: Sequence[Row | Pair]) -> float:
        rows = [item for item in whole if isinstance(item, Row)]
        if not rows:
            return float(len(whole))
        _, counts = self.aggregate(_response_lengths(rows))
        return float(counts.sum())

    def _collate(
        self, chosen: Sequence[Row | Pair], denominator: float, idle: bool, parts: int
    ) -> MicroBatch | PairBatch:
        if isinstance(chosen[0], Pair):
            pairs = [item for item in chosen if isinstance(item, Pair)]
            weight = torch.full((len(pairs),), 0.0 if idle else 1.0)
            return collate_pairs(pairs, weight, denominator, parts)
        rows = [item for item in chosen if isinstance(item, Row)]
        weight, _ = self.aggregate(_response_lengths(rows))
        return collate(rows, weight * (not idle), denominator, parts)


def _shares(items: Sequence[Row | Pair]) -> list[list[int]]:
    """Places of `items` for each rank: what shares a prompt stays together, but for more than a rank's part of the whole;

    the most tokens go to the rank with the fewest.
    """
    if ranks.world_size() == 1:
        return [list(range(len(items)))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, item in enumerate(items):
        row = _rows(item)[0]
        groups.setdefault(row.token_ids[: row.prompt_length], []).append(i)
    most = max(1, len(items) // ranks.world_size())
    parts = [members[a : a + most] for members in groups.values() for a in range(0, len(members), most)]
    shares: list[list[int]] = [[] for _ in range(ranks.world_size())]
    loads = [0] * len(shares)
    sizes = [sum(_length(items[i]) for i in part) for part in parts]
    for part, size in sorted(zip(parts, sizes, strict=True), key=lambda pair: -pair[1]):
        least = loads.index(min(loads))
        shares[least] += part
        loads[least] += size
    return shares


def _rows(item: Row | Pair) -> tuple[Row, ...]:
    return (item.chosen, item.rejected) if isinstance(item, Pair) else (item,)


def _length(item: Row | Pair) -> int:
    return sum(len(row.token_ids) for row in _rows(item))


def _response_lengths(rows: Sequence[Row]) -> torch.Tensor:
    return torch.tensor([row.response_length for row in rows])
