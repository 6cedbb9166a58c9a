"""A key-value cache that is cheap to append to and cheap to drop rows from."""

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


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


def join(cache: Cache, other: Cache) -> None:
    """Append the rows of `other` to `cache`, both of the same model."""
    for mine, theirs in zip(appending_layers(cache), appending_layers(other), strict=True):
        mine.join(theirs)


def drop_first(cache: Cache, positions: int) -> None:
    """Forget the first positions of every layer."""
    for layer in appending_layers(cache):
        layer.drop_first(positions)
