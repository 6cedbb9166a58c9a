"""Decoding with shapes and addresses that stay, so that a CUDA graph can replay a whole step in one launch.

Where a model is small for its GPU, a step takes as long as its thousand launches do. Here it is captured once for so many rows
and so many positions; each replay then reads its tokens, its positions and the column to write from where they always are.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from winnow.engines.decoding import Decoding, forward
from winnow.engines.kv_cache import AppendingLayer, appending_layers

BUCKET = 256
"""Positions that are added, and captured anew, when the buffers are full: attention reads all of them, filled or not."""


class FixedLayer(AppendingLayer):
    """Writes new positions at `column`, a number on the device; what it returns is the whole buffer."""

    def __init__(self, keys: Tensor, values: Tensor, width: int, column: Int[Tensor, "1"]) -> None:
        super().__init__()
        super().update(*(nn.functional.pad(states, (0, 0, 0, width - states.shape[2])) for states in (keys, values)))
        self._hold(*(buffer[..., :width, :] for buffer in self._buffers))
        self.column = column

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.index_copy_(2, self.column, states.to(buffer.dtype))
        return self._buffers


class FixedDecoding:
    """As `Decoding` between two changes of its rows; on CUDA by graphs."""

    def __init__(self, state: Decoding) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self.model, self.filled, self.logits = state.model, state.width, state.logits
        device = state.position.device
        self.position = state.position.clone()
        self.tokens = torch.zeros_like(state.position)
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.visible = state.seen()
        self.cache = state.cache
        self._widen()

    def feed(self, tokens: Int[Tensor, " r"], growing: Bool[Tensor, " r"]) -> None:
        """As `Decoding.feed`."""
        if self.filled == self.visible.shape[1]:
            self._widen()
        self.tokens.copy_(tokens[:, None])
        self.column.fill_(self.filled)
        self.position += growing[:, None]
        self.filled += 1
        if self.tokens.is_cuda:
            self._graph = self._graph or self._captured()
            self._graph.replay()
        else:
            self._step()

    def thawed(self) -> Decoding:
        """With rows that can be dropped and joined again."""
        self._graph = None
        for i, layer in enumerate(appending_layers(self.cache)):
            self.cache.layers[i] = AppendingLayer.of(*layer.filled(self.filled))
        visible = self.visible[:, : self.filled]
        return Decoding(self.model, self.cache, visible, self.filled, self.position, self.logits)

    def _widen(self) -> None:
        width = (self.filled // BUCKET + 1) * BUCKET
        for i, layer in enumerate(appending_layers(self.cache)):  # in place, so that one layer at a time is there twice
            self.cache.layers[i] = FixedLayer(*layer.filled(self.filled), width, self.column)
        self.visible = nn.functional.pad(self.visible[:, : self.filled], (0, width - self.filled), value=False)
        self._graph = None

    def _step(self) -> None:
        """The same again if it is run again: that is what a capture asks for."""
        self.visible.index_fill_(1, self.column, True)
        self.logits = forward(self.model, self.cache, self.tokens, self.position, self.visible)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """Autocast keeps the copies of weights that the first, uncaptured step makes; the graph reads those."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self._step()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph
