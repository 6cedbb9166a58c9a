"""Batched decoding: a key-value cache that appends in place and admits and drops rows, and steps with fixed shapes.

R rows are decoded together. They are padded on the left, so that all of them grow at the same column of the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from winnow.errors import ConfigError
from winnow.models.attention import FLASH, LeftPadded, is_packed
from winnow.models.probe import agree, alone, one_line, probe_rows
from winnow.types import Prompt, Row


class AppendingLayer(DynamicLayer):
    """Key-value cache of a full-attention layer that writes new positions in place, into buffers with spare room.

    Transformers' dynamic layer concatenates, which copies the whole cache at every token; its static layer has the size
    of the longest possible response from the start, and every step attends to all of it. Here `keys` and `values`,
    (rows, heads, positions, head_dim), are views of the filled part of buffers that grow by a sixteenth when full. More
    room costs more than it saves: it lies between the rows, and attention has to read across it.
    """

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._buffers = (key_states[..., :0, :], value_states[..., :0, :])
        self._length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, new positions, head_dim) and return all keys and values so far."""
        # Under autocast rotated keys are float32, but attention takes keys in the dtype of the values.
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
        """Replace row i by the former row `beam_idx[i]`, which repeats and drops rows as well as reordering them."""
        self._hold(*(buffer.index_select(0, beam_idx) for buffer in self._buffers))

    @classmethod
    def of(cls, keys: Tensor, values: Tensor) -> "AppendingLayer":
        """A layer that is filled with `keys` and `values`."""
        layer = cls()
        layer.update(keys, values)
        return layer

    def filled(self, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values so far, or the first `length` positions of them."""
        keys, values = self._buffers
        return keys[..., : length or self._length, :], values[..., : length or self._length, :]

    def join(self, other: "AppendingLayer") -> None:
        """Append the rows of `other`; the shorter of the two is padded on the left.

        The padding is zeros, not uninitialised memory: attention multiplies it by a weight of zero, and NaN would
        survive.
        """
        width = max(self._length, other._length)
        joined = [
            torch.cat([_widened(mine[..., : self._length, :], width), _widened(theirs[..., : other._length, :], width)])
            for mine, theirs in zip(self._buffers, other._buffers, strict=True)
        ]
        self._length = width
        self._hold(*joined)

    def drop_first(self, positions: int) -> None:
        """Drop the first `positions` of all rows."""
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
    """An empty cache for a model of `config`. Sliding-window and recurrent layers remain transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [AppendingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def appending_layers(cache: Cache) -> list[AppendingLayer]:
    """The layers of `cache` that keep all keys and values."""
    return [layer for layer in cache.layers if isinstance(layer, AppendingLayer)]


def can_join(cache: Cache) -> bool:
    """Whether rows can be added to `cache`, i.e. every layer keeps all keys and values."""
    return all(type(layer) is AppendingLayer for layer in cache.layers)


@dataclass(slots=True)
class Decoding:
    """The state of R rows that are decoded together, whose shapes grow by a column with every token."""

    model: PreTrainedModel
    cache: Cache
    visible: Bool[Tensor, "r w"] | None
    """False on padding, for the W = `width` positions in the cache. None if there is no padding."""
    width: int
    position: Int[Tensor, "r 1"]
    """The position of each row's last token, padding not counted."""
    logits: Float[Tensor, "r v"]
    """The logits of each row's next token, in float32 at least."""

    def feed(self, tokens: Int[Tensor, " r"], growing: Bool[Tensor, " r"]) -> None:
        """Append a token to each row and compute the logits of the next.

        Rows that have ended (`growing` false) are computed too but stay at their position: a table of learned positions
        ends.
        """
        self.width += 1
        self.position = self.position + growing[:, None]
        if self.visible is not None:
            self.visible = torch.cat([self.visible, self.visible.new_ones(len(self.visible), 1)], 1)
        self.logits = forward(self.model, self.cache, tokens[:, None], self.position, self.visible)

    def seen(self) -> Bool[Tensor, "r w"]:
        """`visible` as a tensor, also if there is no padding."""
        if self.visible is not None:
            return self.visible
        return torch.ones(len(self.position), self.width, dtype=torch.bool, device=self.position.device)

    def select(self, rows: Int[Tensor, " r"]) -> None:
        """Replace row i by the former row `rows[i]`, which repeats or drops rows."""
        self.cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]
        self.logits, self.position = self.logits[rows], self.position[rows]
        self.visible = None if self.visible is None else self.visible[rows]

    def admit(self, others: "Decoding") -> None:
        """Append the rows of `others`, the shorter ones padded on the left; drop columns that are all padding."""
        width = max(self.width, others.width)
        visible = [nn.functional.pad(rows.seen(), (width - rows.width, 0), value=False) for rows in (self, others)]
        self.logits = torch.cat([self.logits, others.logits])
        self.position = torch.cat([self.position, others.position])
        spare = width - 1 - int(self.position.max())
        for mine, theirs in zip(appending_layers(self.cache), appending_layers(others.cache), strict=True):
            mine.join(theirs)
            mine.drop_first(spare)
        self.width = width - spare
        self.visible = torch.cat(visible)[:, spare:]


def prefill(model: PreTrainedModel, prompts: Sequence[Prompt], pad_id: int) -> Decoding:
    """A decoding of P prompts, one row each, run through the model together."""
    lengths = torch.tensor([len(prompt.token_ids) for prompt in prompts])
    width = int(lengths.max())
    tokens = torch.tensor([(pad_id,) * (width - len(p.token_ids)) + p.token_ids for p in prompts]).to(model.device)
    position = (torch.arange(width) - (width - lengths)[:, None]).to(model.device)  # negative on padding
    # Without padding no mask: every attention kernel then takes its fast path.
    visible = position >= 0 if int(lengths.min()) < width else None
    cache = appending_cache(model.config)
    position = position.clamp(min=0)
    logits = forward(model, cache, tokens, position, visible)
    return Decoding(model, cache, visible, width, position[:, -1:], logits)


def forward(
    model: PreTrainedModel, cache: Cache, tokens: Tensor, position: Tensor, visible: Tensor | None
) -> Float[Tensor, "r v"]:
    """Append (R, q) tokens to the cache and return the logits after the last, in float32 at least."""
    sees = {"attend": LeftPadded(visible)} if is_packed(model) else {"attention_mask": visible}
    output = model(
        input_ids=tokens, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1, **sees
    )
    logits = output.logits[:, -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def require_exact_decoding(model: PreTrainedModel) -> None:
    """Check that decoding with a cache and padding gives the log-probabilities of a plain forward of each row alone.

    Recurrent layers and caches of an architecture's own often do not: padding on the left enters their state.

    Raises:
        ConfigError: it does not, or fails.
    """
    if model.config._attn_implementation == FLASH:  # it has no float32, in which alone equality can be seen
        return
    first, _, other = rows = probe_rows(model)
    targets = [torch.tensor([r.token_ids[r.prompt_length + i] for r in rows], device=model.device) for i in range(2)]
    # Equal arithmetic on both sides: under autocast the cache would hold other keys than the forward computes.
    with torch.autocast(model.device.type, enabled=False):
        alike = [alone(model, [replace(row, token_ids=row.token_ids[: row.prompt_length + 2])]) for row in rows]
        try:
            state = prefill(model, [_prompt(first), _prompt(other)], pad_id=0)
            state.select(torch.tensor([0, 0, 1], device=model.device))
            found = [state.logits.log_softmax(-1).gather(1, targets[0][:, None])]
            state.feed(targets[0], torch.ones_like(targets[0], dtype=torch.bool))
            found.append(state.logits.log_softmax(-1).gather(1, targets[1][:, None]))
            reason = None if agree(torch.cat(found, 1), torch.stack(alike)) else "log-probabilities differ"
        except Exception as error:  # what fails depends on the architecture's cache
            reason = one_line(error)
    if reason is not None:
        raise ConfigError(
            f"engine: {type(model).__name__} cannot be sampled in batches with a cache as it is computed one row at a "
            f"time ({reason}); choose a decoder with attention in all layers (Qwen, Llama, …)"
        )


def _prompt(row: Row) -> Prompt:
    return Prompt("", row.token_ids[: row.prompt_length], "", "")


POSITION_BUCKET = 256
"""Positions by which full buffers of fixed shape grow. Attention reads all of them, filled or not, so that more cost
more per step; each growth needs a new CUDA graph, so that fewer cost more captures."""


class FixedLayer(AppendingLayer):
    """A layer of fixed shape: it writes new positions at `column`, a device tensor, and returns the whole buffer."""

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
    """Decoding with fixed shapes between two changes of the rows, so that on CUDA a graph replays each step."""

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
        """Append a token to each row, as `Decoding.feed`."""
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
        """The same rows as a `Decoding`, to which rows can be added and from which they can be dropped."""
        self._graph = None
        for i, layer in enumerate(appending_layers(self.cache)):
            self.cache.layers[i] = AppendingLayer.of(*layer.filled(self.filled))
        visible = self.visible[:, : self.filled]
        return Decoding(self.model, self.cache, visible, self.filled, self.position, self.logits)

    def _widen(self) -> None:
        width = (self.filled // POSITION_BUCKET + 1) * POSITION_BUCKET
        # Replaced layer by layer, so that only one layer at a time is in memory twice.
        for i, layer in enumerate(appending_layers(self.cache)):
            self.cache.layers[i] = FixedLayer(*layer.filled(self.filled), width, self.column)
        self.visible = nn.functional.pad(self.visible[:, : self.filled], (0, width - self.filled), value=False)
        self._graph = None

    def _step(self) -> None:
        """Compute one step from this object's tensors. Repeating it changes nothing, as capturing a graph requires."""
        self.visible.index_fill_(1, self.column, True)
        self.logits = forward(self.model, self.cache, self.tokens, self.position, self.visible)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """A CUDA graph of one step, captured after an uncaptured one.

        In that first step autocast makes and keeps its low-precision copies of the weights, which the graph then reads.
        """
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self._step()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph
