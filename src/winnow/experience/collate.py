"""Ragged rows to one micro-batch."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from winnow.packed import pack
from winnow.types import Batch, MicroBatch, Pair, PairBatch, Row


def collate(rows: Sequence[Row], weight: Float[Tensor, " b"], denominator: float, parts: int) -> MicroBatch:
    """A field is present if every row has it."""
    packed = pack(rows)
    return MicroBatch(packed, _terms(rows, packed.response, weight, denominator, parts))


def collate_pairs(pairs: Sequence[Pair], weight: Float[Tensor, " b"], denominator: float, parts: int) -> PairBatch:
    """Both sides of each pair in one forward; a pair's prompt is computed once."""
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    packed = pack([*chosen, *rejected])
    sides = packed.response.chunk(2)
    return PairBatch(
        packed,
        _terms(chosen, sides[0], weight, denominator, parts),
        _terms(rejected, sides[1], weight, denominator, parts),
    )


def _terms(rows: Sequence[Row], response: Tensor, weight: Float[Tensor, " b"], denominator: float, parts: int) -> Batch:
    width = response.shape[1]
    return Batch(
        response=response,
        row_weight=weight,
        denominator=denominator,
        parts=parts,
        advantages=_padded([row.advantage for row in rows], width),
        old_logprobs=_padded([row.old_logprobs for row in rows], width),
        ref_logprobs=_padded([row.ref_logprobs for row in rows], width),
        values=_padded([row.values for row in rows], width),
        returns=_padded([row.returns for row in rows], width),
    )


def _padded(values: Sequence[Tensor | None], width: int) -> Float[Tensor, "b s"] | None:
    if any(value is None for value in values):
        return None
    present = [value for value in values if value is not None]
    padded = present[0].new_zeros((len(present), width))
    for i, value in enumerate(present):
        padded[i, : len(value)] = value
    return padded
