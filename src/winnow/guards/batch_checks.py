"""Checks of a micro-batch as training receives it: its rows, mask, weights, denominator and numbers, recounted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.guards.finding import Finding
from winnow.guards.plain_rules import token_weights
from winnow.objectives import Aggregate
from winnow.packed import Packed
from winnow.types import Batch, MicroBatch, Pair, PairBatch, Row


def tokens_of(packed: Packed) -> list[tuple[int, ...]]:
    """The token ids of each packed row, prompt included, read back from the tensors."""
    tokens, places, cells = packed.tokens[0].tolist(), packed.places.tolist(), packed.cells.tolist()
    width, last = packed.response.shape[1], dict[int, int]()
    for cell, target in zip(cells, packed.targets.tolist(), strict=True):
        last[cell // width] = target  # row by row, in order of position, so that the last one stays
    return [(*(tokens[place] for place in places[i][:length]), last[i]) for i, length in enumerate(packed.lengths)]


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """A micro-batch on the CPU, and for each of its rows or pairs the items that have the same tokens.

    There are several where a prompt has equal samples, and none where a row is not of its optimiser batch. Rows of
    weight zero, which only fill a micro-batch up, are None.
    """

    batch: MicroBatch | PairBatch
    candidates: tuple[tuple[int, ...] | None, ...]

    @property
    def sides(self) -> tuple[Batch, ...]:
        return (self.batch.chosen, self.batch.rejected) if isinstance(self.batch, PairBatch) else (self.batch.terms,)

    @property
    def live(self) -> list[int]:
        """The items of the batch that are trained on."""
        return [of_row[0] for of_row in self.candidates if of_row]


def read_batch(batch: MicroBatch | PairBatch, items: Sequence[Row | Pair], dealt: Sequence[int]) -> ReadBatch:
    """`batch` with its rows found among the items `dealt` to its optimiser batch, by the tokens that it holds."""
    batch = batch.to("cpu")
    known: dict[tuple[tuple[int, ...], ...], tuple[int, ...]] = {}
    for i in dealt:
        tokens = tuple(row.token_ids for row in items[i].rows)
        known[tokens] = (*known.get(tokens, ()), i)
    rows = tokens_of(batch.rows)
    weights = batch.terms.row_weight.tolist()
    found = [tuple(rows[b :: len(weights)]) for b in range(len(weights))]
    return ReadBatch(batch, tuple(known.get(r, ()) if w else None for r, w in zip(found, weights, strict=True)))


def wrong_terms(
    read: ReadBatch, items: Sequence[Row | Pair], dealt: Sequence[int], aggregate: Aggregate
) -> Finding | None:
    """The first number of the micro-batch that is not what its rows say."""
    if () in read.candidates:
        row = read.candidates.index(()) + 1
        return Finding("rows", f"row {row}", "a row of the optimiser batch", "a row of no item")
    pairs = isinstance(read.batch, PairBatch)
    found = [(1.0, 1.0)] * len(dealt) if pairs else weights_of(items, dealt, aggregate)
    shares = dict(zip(dealt, found, strict=True))
    denominator = sum(shares[i][1] for i in dealt)
    for side, terms in enumerate(read.sides):
        if not math.isclose(terms.denominator, denominator, rel_tol=1e-6):
            where = f"optimiser batch of {len(dealt)}"
            return Finding("denominator", where, f"{denominator:g}", f"{terms.denominator:g}")
        for b, candidates in enumerate(read.candidates):
            found = [_wrong_row(terms, b, items[i].rows[side], shares[i][0]) for i in candidates or ()]
            if found and None not in found:
                return found[0]
    return None


def weights_of(items: Sequence[Row | Pair], dealt: Sequence[int], aggregate: Aggregate) -> list[tuple[float, float]]:
    """For each row of an optimiser batch the weight of its tokens, and its part of the denominator."""
    rows = [items[i].rows[0] for i in dealt]
    number: dict[tuple[int, ...], int] = {}
    prompts = [number.setdefault(row.token_ids[: row.prompt_length], len(number)) for row in rows]
    return token_weights(aggregate, [(row.response_length, p) for row, p in zip(rows, prompts, strict=True)])


def _wrong_row(terms: Batch, b: int, row: Row, weight: float) -> Finding | None:
    where, size = f"row {b + 1}", len(row.token_ids)
    if not math.isclose(float(terms.row_weight[b]), weight, rel_tol=1e-6):
        return Finding("token weights", where, f"{weight:g}", f"{float(terms.row_weight[b]):g}")
    mask = [row.prompt_length <= s < size for s in range(terms.response.shape[1])]
    if terms.response[b].tolist() != mask:
        expected = f"{sum(mask)} tokens from position {row.prompt_length} on"
        return Finding("response mask", where, expected, f"positions {_span(terms.response[b])}")
    for name, (given, own) in _numbers(terms, row).items():
        if given is not None and (own is None or not _same(given[b], own)):
            return Finding(name, where, "the row's own numbers", "others in the micro-batch")
    return None


def _numbers(terms: Batch, row: Row) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Numbers of a row that the loss reads: in the micro-batch and in the row itself, by the name of the check."""
    return {
        "advantages": (terms.advantages, row.advantage),
        "old log-probabilities": (terms.old_logprobs, row.old_logprobs),
        "sampler": (terms.sampler_logprobs, row.sampler_logprobs),
        "reference": (terms.ref_logprobs, row.ref_logprobs),
        "values": (terms.values, row.values),
        "returns": (terms.returns, row.returns),
    }


def _same(given: Tensor, own: Tensor) -> bool:
    """Equal to the bit, NaN included, with zeros after the row's end."""
    padded = torch.zeros_like(given)
    padded[: len(own)] = own.to(given.dtype)
    return torch.equal(given.nan_to_num(nan=7e7), padded.nan_to_num(nan=7e7))


def _span(mask: Tensor) -> str:
    inside = mask.nonzero().flatten().tolist()
    return f"{inside[0]} to {inside[-1]}, {len(inside)} tokens" if inside else "none"
