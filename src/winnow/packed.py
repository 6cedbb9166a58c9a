"""Rows of tokens without padding, each shared prompt once: what a forward computes.

Rows that begin with the same prompt share its tokens. The last token of a response predicts nothing that is trained, so it
is read as a target and never computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_PROMPT_REPEATS = 4
"""How often, at most, packed tokens may recur in attention, where a prompt stands before each of its responses: a token holds
about six times as much memory elsewhere in a layer as it does there, so that this at most doubles what a budget means."""
MIN_BLOCK_FILL = 0.8
"""The share of an attention block that holds tokens, at least: a shorter row opens the next block. Attention is a small part
of a forward, so that a fifth of it costs less than many small kernels do."""


@runtime_checkable
class PromptedSequence(Protocol):
    @property
    def token_ids(self) -> tuple[int, ...]: ...
    @property
    def prompt_length(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Packed:
    """T computed tokens of B rows, of which R response tokens are predicted.

    A row of S tokens is spelt by the first S − 1 entries of its line in `places`, in which a token stands at its position;
    what follows there is filling. A token belongs to the first line that it stands in, its `owner`. `blocks` are runs of
    lines, (first, last + 1, width), that attention takes at a time.
    """

    tokens: Int[Tensor, "1 t"]
    positions: Int[Tensor, "1 t"]
    places: Int[Tensor, "b w"]
    line: Int[Tensor, " c"]
    """All lines of `places`, one after another, without filling; line i begins at `starts[i]`."""
    starts: Int[Tensor, " b1"]
    lengths: tuple[int, ...]
    """Entries of each line in use, S − 1."""
    blocks: tuple[tuple[int, int, int], ...]
    owner: Int[Tensor, " t"]
    sources: Int[Tensor, " r"]
    """The computed token whose hidden state predicts each response token, row by row."""
    targets: Int[Tensor, " r"]
    cells: Int[Tensor, " r"]
    """Where the predictions belong in a (B, S) matrix, S = w + 1, laid out row by row."""
    response: Bool[Tensor, "b s"]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return type(self)(
            moved(self.tokens),
            moved(self.positions),
            moved(self.places),
            moved(self.line),
            moved(self.starts),
            self.lengths,
            self.blocks,
            moved(self.owner),
            moved(self.sources),
            moved(self.targets),
            moved(self.cells),
            moved(self.response),
        )

    def spread(self, numbers: Float[Tensor, " r"]) -> Float[Tensor, "b s"]:
        """One number for each response token as a (B, S) matrix, zero elsewhere."""
        flat = numbers.new_zeros(self.response.numel()).index_copy(0, self.cells, numbers)
        return flat.view_as(self.response)

    def padded(self) -> Int[Tensor, "b w"]:
        """The rows without their last token, filled up on the right."""
        return self.tokens[0][self.places]


def pack(rows: Sequence[PromptedSequence]) -> Packed:
    """Rows with a prompt and a response of at least one token each; sorted by length they make full blocks."""
    begins: dict[tuple[int, ...], int] = {}
    tokens: list[int] = []
    positions: list[int] = []
    owner: list[int] = []
    width = max(len(row.token_ids) for row in rows) - 1
    places = np.zeros((len(rows), width), dtype=np.int64)
    response = np.zeros((len(rows), width + 1), dtype=bool)
    sources, targets = [], []
    for i, row in enumerate(rows):
        prompt, last = row.token_ids[: row.prompt_length], len(row.token_ids) - 1
        if prompt not in begins:
            begins[prompt] = len(tokens)
            tokens += prompt
            positions += range(len(prompt))
            owner += [i] * len(prompt)
        places[i, : len(prompt)] = range(begins[prompt], begins[prompt] + len(prompt))
        places[i, len(prompt) : last] = range(len(tokens), len(tokens) + last - len(prompt))
        tokens += row.token_ids[len(prompt) : last]
        positions += range(len(prompt), last)
        owner += [i] * (last - len(prompt))
        response[i, len(prompt) : last + 1] = True
        sources.append(places[i, len(prompt) - 1 : last])
        targets += row.token_ids[len(prompt) :]
    lengths = tuple(len(row.token_ids) - 1 for row in rows)
    return Packed(
        torch.tensor([tokens]),
        torch.tensor([positions]),
        torch.from_numpy(places),
        torch.from_numpy(np.concatenate([places[i, :length] for i, length in enumerate(lengths)])),
        torch.tensor([0, *accumulate(lengths)]),
        lengths,
        _blocks(lengths),
        torch.tensor(owner),
        torch.from_numpy(np.concatenate(sources)),
        torch.tensor(targets),
        torch.from_numpy(response.reshape(-1).nonzero()[0]),
        torch.from_numpy(response),
    )


def _blocks(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Runs of rows that fill a rectangle to `FULL` or more."""
    blocks: list[tuple[int, int, int]] = []
    first = held = width = 0
    for row, length in enumerate(lengths):
        wider = max(width, length)
        if row > first and held + length < MIN_BLOCK_FILL * wider * (row + 1 - first):
            blocks.append((first, row, width))
            first, held, wider = row, 0, length
        held, width = held + length, wider
    return (*blocks, (first, len(lengths), width))
