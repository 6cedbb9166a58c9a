"""Ragged rows to padded tensors."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.types import Batch, Pair, PairBatch, Row


def collate(rows: Sequence[Row], weight: Float[Tensor, " b"], denominator: float, parts: int, pad_id: int) -> Batch:
    """Right-pad `rows`; a field is present if every row has it."""
    width = max(len(row.token_ids) for row in rows)
    tokens = torch.full((len(rows), width), pad_id)
    response = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row.token_ids)] = torch.tensor(row.token_ids)
        response[i, row.prompt_length : len(row.token_ids)] = True
    return Batch(
        tokens=tokens,
        response=response,
        row_weight=weight,
        denominator=denominator,
        parts=parts,
        start=min(row.prompt_length for row in rows),
        advantages=_padded([row.advantage for row in rows], width),
        old_logprobs=_padded([row.old_logprobs for row in rows], width),
        ref_logprobs=_padded([row.ref_logprobs for row in rows], width),
        values=_padded([row.values for row in rows], width),
        returns=_padded([row.returns for row in rows], width),
    )


def collate_pairs(
    pairs: Sequence[Pair], weight: Float[Tensor, " b"], denominator: float, parts: int, pad_id: int
) -> PairBatch:
    """Both sides of each pair, in the same order."""
    return PairBatch(
        collate([pair.chosen for pair in pairs], weight, denominator, parts, pad_id),
        collate([pair.rejected for pair in pairs], weight, denominator, parts, pad_id),
    )


def _padded(values: Sequence[Tensor | None], width: int) -> Float[Tensor, "b s"] | None:
    if any(value is None for value in values):
        return None
    present = [value for value in values if value is not None]
    padded = present[0].new_zeros((len(present), width))
    for i, value in enumerate(present):
        padded[i, : len(value)] = value
    return padded
