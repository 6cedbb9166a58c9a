"""One call of `generate`, from the first prompt to the last row that ends: who is decoded when."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from winnow.engines.decoding import Decoding, prefill
from winnow.engines.draw import draw
from winnow.engines.fixed import FixedDecoding
from winnow.engines.record import Record
from winnow.rng import uniforms
from winnow.types import Completion, Prompt, Sampling

COMPACT_AT = 1 / 8
"""The share of finished rows at which they leave the cache, and waiting prompts take their place: until then each costs a
step's work for nothing, and dropping them copies all that stay. Measured on a CPU, 256 rows: flat from 0.1 to 0.25, worse
outside."""
COMPACT_FIXED_AT = 1 / 2
"""The same with fixed shapes, where a change of rows is also captured anew."""


class Generation:
    """All rows of one `generate`: those that wait, those that are decoded, those that have ended."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        eos_ids: Sequence[int],
        pad_id: int,
        max_rows: int | None,
        graphs: bool,
    ) -> None:
        self.model, self.prompts, self.pad_id, self.sampling = model, prompts, pad_id, sampling
        self.graphs = graphs
        self.names = [(p, g) for p, group in enumerate(seeds) for g in range(len(group))]
        self.max_rows = len(self.names) if max_rows is None else max_rows
        self.sizes = [len(group) for group in seeds]
        self.waiting = 0  # the first prompt that is not yet begun, and its first row
        self.next_row = 0
        device = model.device
        draws = [uniforms(seed, sampling.max_tokens + 1) for group in seeds for seed in group]
        self.draws = torch.from_numpy(np.stack(draws)).to(device)
        self.eos = torch.tensor(eos_ids, dtype=torch.long, device=device)
        self.record: Record | None = None
        self.row = torch.zeros(0, dtype=torch.long, device=device)
        self.column = torch.zeros_like(self.row)  # that the next token is written to
        self.length = torch.zeros_like(self.row)  # of rows that have ended; 0 before

    def run(self) -> Iterator[dict[int, Completion]]:
        """Rows as they end, a few at a time."""
        state: Decoding | FixedDecoding | None = self._begin(None)
        compact_at = COMPACT_FIXED_AT if self.graphs else COMPACT_AT
        while state is not None:
            state = FixedDecoding(state) if self.graphs else state
            while True:
                token = self._step(state)
                unfinished = (self.length == 0).nonzero().squeeze(-1)  # the host waits for its length: once a step
                if len(unfinished) <= (1 - compact_at) * len(self.row):
                    break
                state.feed(token, self.length == 0)
            state = state.thawed() if isinstance(state, FixedDecoding) else state
            yield self._ended()
            if len(unfinished) > 0:
                state.select(unfinished)
                state.feed(token[unfinished], self.length[unfinished] == 0)
            self._keep(unfinished)
            state = self._begin(state if len(unfinished) > 0 else None)

    def _step(self, state: Decoding | FixedDecoding) -> Tensor:
        """Draw a token for each row, and note which rows it ends."""
        last = self.sampling.max_tokens
        if self.record is None:
            self.record = Record.empty(len(self.names), last, state.logits)
        token, logprob, entropy = draw(state.logits / self.sampling.temperature, self.draws[self.row, self.column])
        self.record.write(self.row, self.column, token, logprob, entropy)
        drawn = self.column + 1
        ends = (torch.isin(token, self.eos) | (drawn == last)) & (self.length == 0)
        self.length = torch.where(ends, drawn, self.length)
        self.column = torch.where(self.length > 0, last, drawn)
        return token

    def _ended(self) -> dict[int, Completion]:
        assert self.record is not None
        over = (self.length > 0).nonzero().squeeze(-1)
        rows, lengths = self.row[over], self.length[over]
        by_eos = torch.isin(self.record.tokens[rows, lengths - 1], self.eos)
        return dict(zip(rows.tolist(), self.record.completions(rows, lengths, by_eos), strict=True))

    def _keep(self, rows: Tensor) -> None:
        self.row, self.column, self.length = self.row[rows], self.column[rows], self.length[rows]

    def _begin(self, state: Decoding | None) -> Decoding | None:
        """Prefill the waiting prompts that there is room for, and let them join."""
        if state is not None and not state.can_admit:
            return state
        first, rows = self.waiting, 0
        while self.waiting < len(self.prompts) and (
            len(self.row) + rows == 0 or len(self.row) + rows + self.sizes[self.waiting] <= self.max_rows
        ):
            rows += self.sizes[self.waiting]
            self.waiting += 1
        if rows == 0:
            return state
        begun = prefill(self.model, self.prompts[first : self.waiting], self.pad_id)
        sizes = torch.tensor(self.sizes[first : self.waiting], device=self.row.device)
        begun.select(torch.repeat_interleave(sizes))
        new = torch.arange(self.next_row, self.next_row + rows, device=self.row.device)
        self.next_row += rows
        self.row = torch.cat([self.row, new])
        self.column, self.length = (torch.cat([old, torch.zeros_like(new)]) for old in (self.column, self.length))
        if state is None:
            return begun
        state.admit(begun)
        return state
