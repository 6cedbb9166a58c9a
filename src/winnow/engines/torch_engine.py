"""Sampling from the training model itself, in plain PyTorch."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from winnow.engines.kv_cache import appending_cache
from winnow.errors import ConfigError
from winnow.rng import uniforms
from winnow.types import Completion, Finish, Prompt, Sampling

COMPACT_AT = 1 / 8
"""The share of finished rows at which they leave the cache: until then each costs a step's work for nothing,
and dropping them copies all that stay. Measured on a CPU, 256 rows: flat from 0.1 to 0.25, worse outside."""


class TorchEngine:
    """Decodes with the model that is being trained: no second copy of its weights, and its own numbers.

    Each prompt is run through the model once; its keys and values are then repeated for its samples, and all
    samples of all prompts are decoded side by side. Only `forward` is called: no generation_config has a say.
    """

    exact = True

    def __init__(self, eos_ids: Sequence[int], pad_id: int = 0, max_rows: int | None = None) -> None:
        """Each of `eos_ids` ends a response. `max_rows` bounds the cache's memory: so many rows are decoded
        at once, in as many goes as the prompts need (but one prompt's samples always go together)."""
        if max_rows is not None and max_rows < 1:
            raise ConfigError(f"engine.max_rows={max_rows} leaves no row to decode: type 1 or more, or null")
        self.version = -1
        self._eos_ids, self._pad_id, self._max_rows = tuple(eos_ids), pad_id, max_rows
        self._model: PreTrainedModel | None = None

    def sync(self, model: PreTrainedModel, version: int) -> None:
        """Keep a reference: the weights are the trainer's own, and always current."""
        if model is not self._model:
            require_position_ids(model)
        self._model, self.version = model, version

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[Completion]]:
        if self._model is None:
            raise RuntimeError("TorchEngine.generate was called before sync: it has no model to sample from")
        # Not inference_mode: a buffer that a forward updates (dynamic RoPE) could never be trained through.
        with torch.no_grad(), evaluating(self._model):
            return [
                completions
                for part in self._parts([len(group) for group in seeds])
                for completions in self._sample(self._model, prompts[part], seeds[part], sampling)
            ]

    def _parts(self, sizes: Sequence[int]) -> Iterator[slice]:
        """Runs of consecutive prompts whose rows fit together."""
        start = rows = 0
        for prompt, size in enumerate(sizes):
            if rows and self._max_rows is not None and rows + size > self._max_rows:
                yield slice(start, prompt)
                start, rows = prompt, 0
            rows += size
        if rows:
            yield slice(start, len(sizes))

    def _sample(
        self, model: PreTrainedModel, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], how: Sampling
    ) -> list[list[Completion]]:
        state = prefill(model, prompts, self._pad_id, how.max_tokens)
        state.select(torch.tensor([p for p, group in enumerate(seeds) for _ in group], device=model.device))
        draws = np.stack([uniforms(seed, how.max_tokens) for group in seeds for seed in group])
        rows = iter(self._decode(state, torch.from_numpy(draws).to(model.device), how.temperature))
        return [list(islice(rows, len(group))) for group in seeds]

    def _decode(self, state: "Decoding", draws: Float[Tensor, "n t"], temperature: float) -> list[Completion]:
        record = Record(draws.new_zeros(draws.shape).long(), *state.logits.new_zeros(2, *draws.shape))
        eos = torch.tensor(self._eos_ids, dtype=torch.long, device=draws.device)
        row = torch.arange(len(draws), device=draws.device)
        finished = torch.zeros_like(row, dtype=torch.bool)
        for step in range(draws.shape[1]):
            token, logprob, entropy = draw(state.logits / temperature, draws[row, step])
            record.write(row, step, token, logprob, entropy)
            finished |= torch.isin(token, eos)
            unfinished = (~finished).nonzero().squeeze(-1)  # the host waits for its length: once a step
            if len(unfinished) == 0 or step + 1 == draws.shape[1]:
                break
            if len(unfinished) <= (1 - COMPACT_AT) * len(row):
                state.select(unfinished)
                token, row, finished = token[unfinished], row[unfinished], finished[unfinished]
            state.feed(token[:, None], state.position + 1)
        return record.completions(eos)


@dataclass(slots=True)
class Decoding:
    """R rows between two tokens. Prompts are padded on the left, so that all rows grow at one place."""

    model: PreTrainedModel
    cache: Cache
    attend: Bool[Tensor, "r w"] | None
    """False on padding; as wide as the longest prompt and the budget. None where nothing is padded."""
    width: int = 0
    """Positions in the cache."""
    position: Int[Tensor, "r 1"] = field(init=False)
    """Of the last token in its own sequence, padding not counted."""
    logits: Float[Tensor, "r v"] = field(init=False)
    """Of the next token; float32 at least."""

    def feed(self, tokens: Int[Tensor, "r s"], position: Int[Tensor, "r s"]) -> None:
        """Append tokens to each row."""
        self.width += tokens.shape[1]
        output = self.model(
            input_ids=tokens,
            position_ids=position,
            attention_mask=None if self.attend is None else self.attend[:, : self.width],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
        self.logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        self.position = position[:, -1:]

    def select(self, rows: Int[Tensor, " r"]) -> None:
        """Repeat or drop rows."""
        self.cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]
        self.logits, self.position = self.logits[rows], self.position[rows]
        self.attend = None if self.attend is None else self.attend[rows]


def prefill(model: PreTrainedModel, prompts: Sequence[Prompt], pad_id: int, max_tokens: int) -> Decoding:
    """Run P prompts through the model together, each once; there is room for `max_tokens` more."""
    lengths = torch.tensor([len(prompt.token_ids) for prompt in prompts])
    width = int(lengths.max())
    tokens = torch.tensor([(pad_id,) * (width - len(p.token_ids)) + p.token_ids for p in prompts])
    position = (torch.arange(width) - (width - lengths)[:, None]).to(model.device)  # negative on padding
    attend = None  # the fast path of every attention kernel
    if int(lengths.min()) < width:
        attend = nn.functional.pad(position >= 0, (0, max_tokens), value=True)
    state = Decoding(model, appending_cache(model.config), attend)
    state.feed(tokens.to(model.device), position.clamp(min=0))
    return state


@dataclass(frozen=True, slots=True)
class Record:
    """What N rows drew, column by column; columns after a row's first EOS mean nothing."""

    tokens: Int[Tensor, "n t"]
    logprobs: Float[Tensor, "n t"]
    entropies: Float[Tensor, "n t"]

    def write(self, row: Tensor, column: int, token: Tensor, logprob: Tensor, entropy: Tensor) -> None:
        self.tokens[row, column] = token
        self.logprobs[row, column] = logprob
        self.entropies[row, column] = entropy

    def completions(self, eos: Int[Tensor, " k"]) -> list[Completion]:
        """Cut each row after its first EOS; a row without one ran out of its budget."""
        ends = torch.isin(self.tokens, eos)
        ended = ends.any(1)
        length = torch.where(ended, ends.int().argmax(1) + 1, ends.shape[1])
        tokens, logprobs, entropies = self.tokens.tolist(), self.logprobs.cpu(), self.entropies.cpu()
        return [
            Completion(
                tuple(tokens[n][:cut]),
                logprobs[n, :cut].clone(),  # a view would keep, and pickle, the whole matrix
                entropies[n, :cut].clone(),
                Finish.EOS if by_eos else Finish.LENGTH,
            )
            for n, (cut, by_eos) in enumerate(zip(length.tolist(), ended.tolist(), strict=True))
        ]


def draw(
    logits: Float[Tensor, "r v"], uniform: Float[Tensor, " r"]
) -> tuple[Int[Tensor, " r"], Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Invert the cumulative distribution at `uniform`, in [0, 1): token, log-probability, entropy (nats).

    The sum runs in float64. A token of probability 0 reaches nothing, and the goal stays below what the sum
    came to: whatever the rounding, some token reaches beyond the goal, and the first that does is possible.
    """
    logprobs = logits.log_softmax(-1)
    probs = logprobs.exp()
    reach = probs.cumsum(-1, dtype=torch.float64).masked_fill_(probs == 0, 0.0)
    total = reach.amax(-1)
    goal = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    token = (reach > goal[:, None]).byte().argmax(-1)
    logprob = logprobs.gather(-1, token[:, None]).squeeze(-1)
    return token, logprob, torch.special.entr(probs).sum(-1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off; afterwards every module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def require_position_ids(model: nn.Module) -> None:
    """Refuse an architecture that counts padding as positions: its samples would depend on their batch."""
    causal_lm = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)
    if "position_ids" not in inspect.signature(causal_lm.forward).parameters:
        raise ConfigError(
            f"{type(causal_lm).__name__} takes no position_ids, so prompts of different lengths cannot be "
            "batched exactly: choose a decoder that does (Qwen, Llama, GPT-2, …)"
        )
