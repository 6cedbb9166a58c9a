"""Rows between two tokens: the cache, and what the next token will be drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from winnow.engines.kv_cache import appending_cache, can_join, drop_first, join
from winnow.models.attention import LeftPadded, is_packed
from winnow.types import Prompt


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
        visible = torch.cat([_seen(self, width), _seen(others, width)])
        join(self.cache, others.cache)
        self.logits = torch.cat([self.logits, others.logits])
        self.position = torch.cat([self.position, others.position])
        spare = width - 1 - int(self.position.max())
        if spare:
            drop_first(self.cache, spare)
        self.width = width - spare
        self.visible = visible[:, spare:]


def _seen(rows: Decoding, width: int) -> Bool[Tensor, "r w"]:
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
