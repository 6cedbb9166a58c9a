"""A key-value cache that is cheap to append to and cheap to drop rows from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from winnow.models.attention import LeftPadded, is_packed
from winnow.types import Prompt


class AppendingLayer(DynamicLayer):
    """A full-attention layer that writes new positions in place, into buffers with room to spare.

    Transformers' own dynamic layer concatenates, which copies the whole cache at every token; its static
    layer holds the longest possible response from the start, and every step attends to all of it. Here `keys`
    and `values`, (rows, heads, positions, head_dim), are views of the filled part of buffers that grow by a
    sixteenth when full. (More room costs more than it saves: it lies between the rows, and attention has to
    read across it.)
    """

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._buffers = (key_states[..., :0, :], value_states[..., :0, :])
        self._length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, new positions, head_dim); return all keys and values so far.

        Under autocast rotated keys come in float32, but attention takes them in the dtype of the values.
        """
        key_states = key_states.to(value_states.dtype)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self._length = self._length, self._length + key_states.shape[-2]
        if self._length > self._buffers[0].shape[-2]:
            self._hold(*(self._grown(buffer, start) for buffer in self._buffers))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., start : self._length, :] = states
        return self._hold(*self._buffers)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Make row i what row `beam_idx[i]` was: repeats and drops rows as well as reordering them."""
        self._hold(*(buffer.index_select(0, beam_idx) for buffer in self._buffers))

    @classmethod
    def of(cls, keys: Tensor, values: Tensor) -> "AppendingLayer":
        """Of keys and values that are there."""
        layer = cls()
        layer.update(keys, values)
        return layer

    def filled(self, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values so far, or the first `length` positions of them."""
        keys, values = self._buffers
        return keys[..., : length or self._length, :], values[..., : length or self._length, :]

    def join(self, other: "AppendingLayer") -> None:
        """Append the rows of `other`; the narrower ones are filled up on the left, with zeros, for attention multiplies them."""
        width = max(self._length, other._length)
        joined = [
            torch.cat([_widened(mine[..., : self._length, :], width), _widened(theirs[..., : other._length, :], width)])
            for mine, theirs in zip(self._buffers, other._buffers, strict=True)
        ]
        self._length = width
        self._hold(*joined)

    def drop_first(self, positions: int) -> None:
        """Forget the first positions of all rows."""
        self._length -= positions
        self._hold(*(buffer[..., positions:, :] for buffer in self._buffers))

    def _grown(self, buffer: Tensor, filled: int) -> Tensor:
        room = self._length + max(4, self._length // 16)
        grown = buffer.new_empty((*buffer.shape[:2], room, buffer.shape[-1]))
        grown[..., :filled, :] = buffer[..., :filled, :]
        return grown

    def _hold(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self._buffers = keys, values
        self.keys, self.values = views = keys[..., : self._length, :], values[..., : self._length, :]
        return views


def _widened(states: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


def appending_cache(config: PreTrainedConfig) -> Cache:
    """An empty cache for a model of `config`; sliding-window and recurrent layers stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [AppendingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def appending_layers(cache: Cache) -> list[AppendingLayer]:
    """Every layer that keeps all keys and values."""
    return [layer for layer in cache.layers if isinstance(layer, AppendingLayer)]


def can_join(cache: Cache) -> bool:
    """Whether every layer keeps all keys and values."""
    return all(type(layer) is AppendingLayer for layer in cache.layers)


def join_caches(cache: Cache, other: Cache) -> None:
    """Append the rows of `other` to `cache`, both of the same model."""
    for mine, theirs in zip(appending_layers(cache), appending_layers(other), strict=True):
        mine.join(theirs)


def drop_first_positions(cache: Cache, positions: int) -> None:
    """Forget the first positions of every layer."""
    for layer in appending_layers(cache):
        layer.drop_first(positions)


@dataclass(slots=True)
class Decoding:
    """R rows. They are filled up on the left, so that all grow at one place."""

    model: PreTrainedModel
    cache: Cache
    visible: Bool[Tensor, "r w"] | None
    """False on filling; W positions in the cache. None where nothing is filled up."""
    width: int
    position: Int[Tensor, "r 1"]
    """Of the last token in its own row, filling not counted."""
    logits: Float[Tensor, "r v"]
    """Of the next token; float32 at least."""

    def feed(self, tokens: Int[Tensor, " r"], growing: Bool[Tensor, " r"]) -> None:
        """Append a token to each row. Rows that have ended stay at their position: learned positions come to an end."""
        self.width += 1
        self.position = self.position + growing[:, None]
        if self.visible is not None:
            self.visible = torch.cat([self.visible, self.visible.new_ones(len(self.visible), 1)], 1)
        self.logits = forward(self.model, self.cache, tokens[:, None], self.position, self.visible)

    def seen(self) -> Bool[Tensor, "r w"]:
        """`visible`, also where nothing is filled up."""
        if self.visible is not None:
            return self.visible
        return torch.ones(len(self.position), self.width, dtype=torch.bool, device=self.position.device)

    def select(self, rows: Int[Tensor, " r"]) -> None:
        """Repeat or drop rows."""
        self.cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]
        self.logits, self.position = self.logits[rows], self.position[rows]
        self.visible = None if self.visible is None else self.visible[rows]

    @property
    def can_admit(self) -> bool:
        """Whether rows can join: not where a layer keeps something else than all keys and values."""
        return can_join(self.cache)

    def admit(self, others: "Decoding") -> None:
        """Append the rows of `others`, the shorter ones filled up on the left; what is then filling in all rows is dropped."""
        width = max(self.width, others.width)
        visible = torch.cat([_visible_at_width(self, width), _visible_at_width(others, width)])
        join_caches(self.cache, others.cache)
        self.logits = torch.cat([self.logits, others.logits])
        self.position = torch.cat([self.position, others.position])
        spare = width - 1 - int(self.position.max())
        if spare:
            drop_first_positions(self.cache, spare)
        self.width = width - spare
        self.visible = visible[:, spare:]


def _visible_at_width(rows: Decoding, width: int) -> Bool[Tensor, "r w"]:
    return nn.functional.pad(rows.seen(), (width - rows.width, 0), value=False)


def prefill(model: PreTrainedModel, prompts: Sequence[Prompt], pad_id: int) -> Decoding:
    """Run P prompts through the model together, each once."""
    lengths = torch.tensor([len(prompt.token_ids) for prompt in prompts])
    width = int(lengths.max())
    tokens = torch.tensor([(pad_id,) * (width - len(p.token_ids)) + p.token_ids for p in prompts]).to(model.device)
    position = (torch.arange(width) - (width - lengths)[:, None]).to(model.device)  # negative on filling
    visible = position >= 0 if int(lengths.min()) < width else None  # None is the fast path of every kernel
    cache = appending_cache(model.config)
    position = position.clamp(min=0)
    logits = forward(model, cache, tokens, position, visible)
    return Decoding(model, cache, visible, width, position[:, -1:], logits)


def forward(
    model: PreTrainedModel, cache: Cache, tokens: Tensor, position: Tensor, visible: Tensor | None
) -> Float[Tensor, "r v"]:
    """Append (R, q) tokens to the cache; the logits after the last, in float32 at least."""
    sees = {"attend": LeftPadded(visible)} if is_packed(model) else {"attention_mask": visible}
    output = model(
        input_ids=tokens, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1, **sees
    )
    logits = output.logits[:, -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


POSITION_BUCKET = 256
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
        width = (self.filled // POSITION_BUCKET + 1) * POSITION_BUCKET
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
