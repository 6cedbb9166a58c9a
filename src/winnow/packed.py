"""Packed rows: the tokens of one forward without padding, and each prompt once for all its responses.

Rows that begin with the same prompt share its tokens. The last token of a response predicts nothing that is trained, so
that it is read as a target and never computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_PROMPT_REPEATS = 4
"""Upper bound on the padded tokens that attention reads, as a multiple of the token budget. In attention a prompt
stands before each of its responses again. Elsewhere in a layer a token takes about six times as much memory as in
attention, so that at this bound a forward takes at most twice the memory of a budget without shared prompts."""
MIN_BLOCK_FILL = 0.8
"""Lower bound on the share of an attention block that holds tokens; a row that would bring it below opens the next
block. Attention is a small part of a forward, so that a fifth of it costs less than many small kernels do."""


@runtime_checkable
class PromptedSequence(Protocol):
    """A prompt of `prompt_length` tokens followed by a response."""

    @property
    def token_ids(self) -> tuple[int, ...]: ...
    @property
    def prompt_length(self) -> int: ...


class OnDevice:
    """Base of frozen dataclasses of tensors that move to a device as a whole.

    Lightning moves any object that has `.to`; a frozen dataclass without one it refuses.
    """

    __slots__ = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy whose tensors are on `device`."""
        moved = {
            f.name: value.to(device, non_blocking=non_blocking)
            for f in fields(self)  # pyright: ignore[reportArgumentType]
            if isinstance(value := getattr(self, f.name), Tensor | OnDevice)
        }
        return replace(self, **moved)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True)
class Packed(OnDevice):
    """T computed tokens of B rows, from which R response tokens are predicted.

    A row i of S tokens has its first S − 1 tokens at `tokens[places[i, :S − 1]]`, in order of position, and its last
    one only in `targets`; the rest of that line of `places` is padding. A token that several rows share is owned by the
    first of them. `blocks` are runs of consecutive rows, (first, last + 1, width), that attention computes together.
    """

    tokens: Int[Tensor, "1 t"]
    positions: Int[Tensor, "1 t"]
    places: Int[Tensor, "b w"]
    line: Int[Tensor, " c"]
    """All lines of `places` concatenated without their padding; line i begins at `starts[i]`."""
    starts: Int[Tensor, " b1"]
    lengths: tuple[int, ...]
    """S − 1 of each row: how many entries of its line of `places` are used."""
    blocks: tuple[tuple[int, int, int], ...]
    owner: Int[Tensor, " t"]
    """The first row that each token belongs to."""
    sources: Int[Tensor, " r"]
    """For each response token, row by row, the computed token whose hidden state predicts it."""
    targets: Int[Tensor, " r"]
    """The ids of the response tokens, row by row."""
    cells: Int[Tensor, " r"]
    """For each response token, its index in a flattened (B, S) matrix, S = w + 1."""
    response: Bool[Tensor, "b s"]

    def spread(self, numbers: Float[Tensor, " r"]) -> Float[Tensor, "b s"]:
        """One number per response token as a (B, S) matrix, 0 elsewhere.

        This is the one shift by one: what was computed at the token before s stands at s.
        """
        flat = numbers.new_zeros(self.response.numel()).index_copy(0, self.cells, numbers)
        return flat.view_as(self.response)

    def padded(self) -> Int[Tensor, "b w"]:
        """The rows without their last token, padded on the right: the input of a model that cannot read packed rows."""
        return self.tokens[0][self.places]


def pack(rows: Sequence[PromptedSequence]) -> Packed:
    """Pack rows that have a prompt and a response of at least one token each.

    Rows sorted by length give well-filled blocks.
    """
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
    """Runs of consecutive rows, each filling its (rows × width) rectangle to at least `MIN_BLOCK_FILL`."""
    blocks: list[tuple[int, int, int]] = []
    first = held = width = 0
    for row, length in enumerate(lengths):
        wider = max(width, length)
        if row > first and held + length < MIN_BLOCK_FILL * wider * (row + 1 - first):
            blocks.append((first, row, width))
            first, held, wider = row, 0, length
        held, width = held + length, wider
    return (*blocks, (first, len(lengths), width))
