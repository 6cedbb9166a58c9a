"""Attention over packed or left-padded rows, registered with transformers under the name `PACKED`.

Transformers passes the keyword argument `attend` of a forward on to the attention of every layer, and `attend` defines
which tokens see which. Layers with features of their own (sliding windows, soft caps, sinks) raise here, and models
with such features elsewhere are detected by `backbone.pack_where_exact`; both keep an attention of transformers' own,
which `architecture.settle_attention` chooses, on padded rows.
"""

from importlib.util import find_spec
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, PreTrainedModel

from winnow.errors import ConfigError
from winnow.packed import Packed

PACKED = "winnow_packed"
FEW_QUERIES = 8
"""Queries per key up to which plain matrix products are the faster attention on a CPU, measured with 256 rows of 70 to
190 keys."""
WITHOUT_EFFECT = frozenset({"is_causal", "position_ids", "use_cache", "output_attentions", "output_router_logits"})
"""Keyword arguments of attention that come from the model's forward and change nothing in causal attention. Any other
one is a feature of the architecture, which this attention would leave out."""
FLASH = "flash_attention_2"
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]


@runtime_checkable
class Attend(Protocol):
    """Interface of an attention computation, which defines the tokens that each token sees."""

    def __call__(
        self,
        query: Float[Tensor, "b h q d"],
        key: Float[Tensor, "b k s d"],
        value: Float[Tensor, "b k s d"],
        scale: float | None,
    ) -> Float[Tensor, "b q h d"]: ...


@torch.compiler.disable
def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    attend: Attend | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls; without `attend`, causal attention over rows of equal length."""
    unknown = [name for name, value in more.items() if value is not None and name not in WITHOUT_EFFECT]
    if unknown or dropout or attention_mask is not None or more.get("is_causal") is False:
        raise NotImplementedError(f"{type(module).__name__} uses {unknown or 'dropout, a mask or later tokens'}")
    return (attend or causal)(query, key, value, scaling), None


def causal(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """Causal attention: each token sees its row up to itself."""
    shared = query.shape[1] // key.shape[1]
    if shared > 1 and query.is_cuda and not torch.is_autocast_enabled("cuda") and query.dtype.itemsize > 2:
        # CUDA's kernels for grouped-query attention need 16 bits, except for one that stores all scores.
        key, value = (t.repeat_interleave(shared, 1) for t in (key, value))
        shared = 1
    return sdpa(query, key, value, is_causal=query.shape[2] > 1, scale=scale, enable_gqa=shared > 1).transpose(1, 2)


class LeftPadded:
    """Attention of new tokens at the end of left-padded rows, for decoding with a key-value cache.

    `visible` is (R, W) and False at padding; None means no padding. Query heads that share a key are treated as further
    queries of it. Nothing is repeated, because repeating keys would read the cache several times over.
    """

    def __init__(self, visible: Bool[Tensor, "r w"] | None) -> None:
        self.visible = visible
        self._bias = None if visible is None else _bias(visible[:, None, None, :])
        self._prefill: Tensor | None = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        heads, new = query.shape[1:3]
        query = query.to(value.dtype)  # under autocast, rotated queries are float32
        if self._bias is None and new > 1:
            return causal(query, key, value, scale)
        groups = key.shape[1]
        shared = heads // groups
        folded = query.unflatten(1, (groups, shared)).flatten(2, 3)
        answer = _few_queries(folded, key, value, self._mask(query, key.shape[2], shared), scale)
        return answer.unflatten(2, (shared, new)).flatten(1, 2).transpose(1, 2)

    def _mask(self, query: Tensor, width: int, shared: int) -> Tensor | None:
        """(R, 1, Q, W), where Q is 1, or the number of new tokens times the number of heads that share a key."""
        if self._bias is None:
            return None
        if query.shape[2] == 1:
            return self._bias.to(query.dtype)
        if self._prefill is None:
            self._prefill = self._prefill_mask(query, width, shared)
        return self._prefill

    def _prefill_mask(self, query: Tensor, width: int, shared: int) -> Tensor:
        assert self.visible is not None
        new = query.shape[2]
        place = torch.arange(width, device=query.device)
        own = place[width - new :, None]
        # Padding sees itself, because a softmax over nothing is NaN.
        sees = (place <= own) & self.visible[:, None, :] | (place == own)
        return _bias(sees[:, None]).to(query.dtype).repeat(1, 1, shared, 1)


class EachTokenOnce:
    """Attention of packed rows, computed in blocks of padded rows; each token takes its output from one of its rows.

    All other parts of a model work on single tokens, so that attention is the only place where rows matter. A token of
    a shared prompt stands in several rows, and its output is the same in all of them.
    """

    def __init__(self, rows: Packed) -> None:
        self.rows = rows
        self.calls = 0  # by layers, counted for `backbone.pack_where_exact`
        starts, cells = [], 0
        for first, end, width in rows.blocks:
            starts += range(cells, cells + (end - first) * width, width)
            cells += (end - first) * width
        self.home = torch.tensor(starts, device=rows.owner.device)[rows.owner] + rows.positions[0]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        self.calls += 1
        q, k, v = (_tokens_first(states) for states in (query, key, value))
        places = self.rows.places
        answers = []
        for first, end, width in self.rows.blocks:
            cells = places[first:end, :width].reshape(-1)
            block = [t.index_select(0, cells).unflatten(0, (-1, width)).transpose(1, 2) for t in (q, k, v)]
            answers.append(causal(block[0], block[1], block[2], scale).flatten(0, 1))
        found = answers[0] if len(answers) == 1 else torch.cat(answers)
        return found.index_select(0, self.home)[None]


class Ragged:
    """Attention of packed rows without padding, by PyTorch's variable-length FlashAttention (CUDA, 16 bits)."""

    def __init__(self, rows: Packed) -> None:
        self.rows = rows
        self.home = rows.starts[rows.owner] + rows.positions[0]
        self.starts = rows.starts.int()
        self.longest = max(rows.lengths)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        sizes = {states.shape[-1] for states in (query, key, value)}
        if len(sizes) > 1 or max(sizes) > 256 or max(sizes) % 8:  # FlashAttention has no kernel for these
            return EachTokenOnce(self.rows)(query, key, value, scale)
        # Under autocast, rotated queries and keys are float32.
        q, k, v = (
            _tokens_first(states).to(value.dtype).index_select(0, self.rows.line) for states in (query, key, value)
        )
        shared_heads = query.shape[1] != key.shape[1]
        bounds = (self.starts, self.starts, self.longest, self.longest)
        found = varlen_attn(q, k, v, *bounds, scale=scale, window_size=(-1, 0), enable_gqa=shared_heads)
        assert isinstance(found, Tensor)
        return found.index_select(0, self.home)[None]


def _bias(visible: Bool[Tensor, "r 1 q w"]) -> Float[Tensor, "r 1 q w"]:
    """The term that is added to the scores: 0, or −∞ where a key is hidden."""
    return torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, -torch.inf)


def _few_queries(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Attention of queries that are few per key.

    On a CPU two plain products take half the time of the fused kernel, which works on tiles of 32 queries.
    """
    if query.device.type != "cpu" or query.shape[2] > FEW_QUERIES:
        return sdpa(query, key, value, attn_mask=mask, scale=scale)
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(2, 3)
    return (scores if mask is None else scores.add_(mask)).softmax(-1) @ value


def packed_attention(rows: Packed) -> Attend:
    """The attention for packed rows on their current device: without padding on CUDA under 16-bit autocast."""
    device = rows.tokens.device.type
    ragged = device == "cuda" and torch.is_autocast_enabled(device)
    return Ragged(rows) if ragged else EachTokenOnce(rows)


def _tokens_first(states: Float[Tensor, "1 h t d"]) -> Float[Tensor, "t h d"]:
    return states[0].transpose(0, 1)


AttentionInterface.register(PACKED, attention)


def implementation(wanted: Attention, cuda: bool, bfloat16: bool) -> str | None:
    """The attention implementation to load a model with.

    None, for `auto`, stands for packed attention if the model supports it, and else for transformers' choice.

    Raises:
        ConfigError: the requested implementation cannot run here.
    """
    if wanted == FLASH and (lacking := _lacking(cuda, bfloat16)):
        raise ConfigError(f"hardware.attention={FLASH}: {lacking}; type hardware.attention=auto")
    return None if wanted == "auto" else wanted


def _lacking(cuda: bool, bfloat16: bool) -> str | None:
    """The first requirement of FlashAttention that this run does not meet, as a message."""
    if not cuda:
        return "it needs a CUDA GPU"
    if not bfloat16:
        return "it needs hardware.precision=bf16-mixed"
    return None if find_spec("flash_attn") else "the package flash-attn is not installed"


def is_packed(model: PreTrainedModel) -> bool:
    """Whether the model runs on packed attention."""
    return model.config._attn_implementation == PACKED
