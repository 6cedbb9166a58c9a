"""Sampling with the model that is being trained: exact draws by seed, continuous batching, optional CUDA graphs."""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from winnow import signals
from winnow.engines.alteration import UNALTERED, Unaltered
from winnow.engines.base import OnCompletion, ignore_completion
from winnow.errors import ConfigError
from winnow.rng import uniforms
from winnow.types import Completion, Finish, Prompt, Sampling

# Checks of a configuration ask for an engine's class. Transformers, whose import takes seconds, comes with a model.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from winnow.engines.decoding import Decoding, FixedDecoding


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """The draws of N rows, at most T each. Rows that have ended write to column T, which is never read."""

    tokens: Int[Tensor, "n t1"]
    logprobs: Float[Tensor, "n t1"]
    entropies: Float[Tensor, "n t1"]

    @classmethod
    def empty(cls, rows: int, columns: int, like: Float[Tensor, "..."]) -> "DrawRecord":
        """A record of T = `columns` draws on the device and in the dtype of `like`."""
        shape = (rows, columns + 1)
        return cls(like.new_zeros(shape, dtype=torch.long), like.new_zeros(shape), like.new_zeros(shape))

    def completions(
        self, rows: Int[Tensor, " k"], lengths: Int[Tensor, " k"], by_eos: Bool[Tensor, " k"]
    ) -> list[Completion]:
        """The completions of ended rows: the first `lengths` draws of each, `by_eos` where the last is an EOS."""
        tokens, logprobs, entropies = self.tokens[rows].tolist(), self.logprobs[rows].cpu(), self.entropies[rows].cpu()
        return [
            Completion(
                tuple(tokens[n][:cut]),
                logprobs[n, :cut].clone(),  # a view would keep, and pickle, the whole matrix
                entropies[n, :cut].clone(),
                Finish.EOS if eos else Finish.LENGTH,
            )
            for n, (cut, eos) in enumerate(zip(lengths.tolist(), by_eos.tolist(), strict=True))
        ]


BLOCK = 64
"""Tokens per block of `draw_tokens`: it takes running sums over the V / 64 blocks and over the 64 tokens of one block,
not over the whole vocabulary."""


def draw_tokens(
    logits: Float[Tensor, "r v"], uniform: Float[Tensor, " r"]
) -> tuple[Int[Tensor, " r"], Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Inverse-transform sampling at `uniform` ∈ [0, 1): tokens, their log-probabilities, and entropies (nats).

    First the block is chosen, then the token in it. Running sums are in float64. Whatever the rounding, a token is
    found and has a probability above 0: tokens of probability 0 are excluded, and the goal is kept below the total of
    the sum.
    """
    logprobs = logits.log_softmax(-1)
    size = min(BLOCK, logits.shape[1])
    blocks = -(-logits.shape[1] // size)
    # Probabilities below the smallest normal number are never drawn, and a CPU computes with them many times more
    # slowly.
    probs = torch.nn.functional.threshold(logits.softmax(-1), torch.finfo(logits.dtype).tiny, 0.0)
    spare = blocks * size - logits.shape[1]
    parted = (torch.nn.functional.pad(probs, (0, spare)) if spare else probs).view(len(logits), blocks, size)
    block, rest = _first_beyond(parted.sum(-1), uniform)
    row = torch.arange(len(logits), device=logits.device)
    place, _ = _first_beyond(parted[row, block], rest)
    token = block * size + place
    # Where a probability is 0 its logarithm may be −∞; clamped, their product is 0 and not NaN.
    entropy = -(probs * logprobs.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)
    return token, logprobs.gather(-1, token[:, None]).squeeze(-1), entropy


def _first_beyond(masses: Float[Tensor, "r k"], share: Float[Tensor, " r"]) -> tuple[Tensor, Tensor]:
    """The first of K masses at which the running sum exceeds `share` of the total, and its share that is below."""
    # A mass of 0 has a running sum of 0, which exceeds no goal.
    reach = masses.cumsum(-1, dtype=torch.float64).masked_fill_(masses == 0, 0.0)
    total = reach.amax(-1)
    goal = torch.minimum(share * total, total.nextafter(torch.zeros_like(total)))
    first = (reach > goal[:, None]).byte().argmax(-1)
    mass = masses.gather(-1, first[:, None]).squeeze(-1).double()
    before = reach.gather(-1, first[:, None]).squeeze(-1) - mass
    return first, ((goal - before) / mass).clamp(0, 1)


COMPACT_AT = 1 / 8
"""The share of finished rows at which they are dropped and waiting prompts take their place. Until then each of them
costs a useless step; dropping them copies the cache of all others. Measured on a CPU with 256 rows: flat from 0.1 to
0.25, worse outside."""
COMPACT_FIXED_AT = 1 / 2
"""The same with fixed shapes, where every change of rows also needs a new CUDA graph."""


class Generation:
    """The rows of one `generate` call: some wait, some are being decoded, some have ended.

    `row`, `column` and `length` describe the rows that are being decoded.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        eos_ids: Sequence[int],
        pad_id: int,
        max_rows: int | None,
        graphs: bool,
        alter: Unaltered,
    ) -> None:
        self.model, self.prompts, self.pad_id, self.sampling = model, prompts, pad_id, sampling
        self.graphs, self.alter = graphs, alter
        self.names = [(p, g) for p, group in enumerate(seeds) for g in range(len(group))]
        self.max_rows = len(self.names) if max_rows is None else max_rows
        self.sizes = [len(group) for group in seeds]
        self.waiting = 0  # the first prompt that is not begun yet
        self.next_row = 0  # the first row of that prompt
        device = model.device
        draws = [uniforms(seed, sampling.max_tokens + 1) for group in seeds for seed in group]
        self.draws = torch.from_numpy(np.stack(draws)).to(device)
        self.eos = torch.tensor(eos_ids, dtype=torch.long, device=device)
        self.record: DrawRecord | None = None
        self.row = torch.zeros(0, dtype=torch.long, device=device)  # index among all rows of the call
        self.column = torch.zeros_like(self.row)  # column of the record that the next token is written to
        self.length = torch.zeros_like(self.row)  # number of tokens of rows that have ended, 0 for the others

    def run(self) -> Iterator[dict[int, Completion]]:
        """Completions by row as rows end, a few at a time. Left by `Stopped` after a step in which a signal came."""
        from winnow.engines.decoding import FixedDecoding

        state: Decoding | FixedDecoding | None = self._begin(None)
        compact_at = COMPACT_FIXED_AT if self.graphs else COMPACT_AT
        while state is not None:
            state = FixedDecoding(state) if self.graphs else state
            while True:
                signals.check()
                token = self._step(state)
                # Their number is the one thing in a step for which the host waits for the device.
                unfinished = (self.length == 0).nonzero().squeeze(-1)
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

    def _step(self, state: "Decoding | FixedDecoding") -> Tensor:
        """Draw a token for each row and mark the rows that it ends."""
        last = self.sampling.max_tokens
        if self.record is None:
            self.record = DrawRecord.empty(len(self.names), last, state.logits)
        at = self.row, self.column
        token, logprob, entropy = draw_tokens(
            self.alter.logits(state.logits / self.sampling.temperature), self.draws[at]
        )
        self.record.tokens[at], self.record.logprobs[at], self.record.entropies[at] = token, logprob, entropy
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

    def _begin(self, state: "Decoding | None") -> "Decoding | None":
        """Prefill as many waiting prompts as there is room for and add their rows to `state`."""
        from winnow.engines.decoding import can_join, prefill

        if state is not None and not can_join(state.cache):
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


class TorchEngine:
    """Sampler that decodes with the trained model itself: no second copy of the weights, and exact log-probabilities.

    Each prompt is run through the model once; its keys and values are then repeated for its samples, and the samples of
    all prompts are decoded together. Only the model's `forward` is called, so that a generation_config has no effect.
    """

    exact = True
    """Of the class; an engine whose sampling is altered is not."""

    def __init__(
        self,
        eos_ids: Sequence[int],
        pad_id: int = 0,
        max_rows: int | None = None,
        graphs: bool = False,
        alter: Unaltered = UNALTERED,
    ) -> None:
        """Each of `eos_ids` ends a response. A sharded model is sampled from a whole copy, made in the shape of `bare`.

        `max_rows` bounds the rows that are decoded at once, and with them the cache's memory: prompts wait until there
        is room, but the samples of one prompt always begin together. With `graphs`, shapes stay fixed between changes
        of rows and a CUDA graph replays each step. With `alter`, samples are on purpose not quite the policy's.
        """
        if max_rows is not None and max_rows < 1:
            raise ConfigError(f"engine.max_rows={max_rows} leaves no row to decode: type 1 or more, or null")
        self.version, self.exact = -1, alter.exact
        self.bare: PreTrainedModel | None = None
        self._eos_ids, self._pad_id, self._max_rows, self._graphs = tuple(eos_ids), pad_id, max_rows, graphs
        self._alter = alter
        self._model: PreTrainedModel | None = None

    def unaltered(self) -> "TorchEngine":
        """An engine of the same settings that draws from the policy itself; this one, if it does."""
        if self.exact:
            return self
        other = TorchEngine(self._eos_ids, self._pad_id, self._max_rows, self._graphs)
        other.bare = self.bare
        return other

    def require_model(self, model: "PreTrainedModel") -> None:
        """Check at start-up that samples of `model` will have the log-probabilities of its plain forward.

        Raises:
            ConfigError: they will not; the message says why.
        """
        from winnow.engines.decoding import require_exact_decoding

        require_position_ids(model)
        if self._graphs:
            require_fixed_shapes(model)
        with torch.no_grad(), evaluating(model):
            require_exact_decoding(model)

    def sync(self, model: "PreTrainedModel", version: int) -> None:
        """Keep a reference to the trainer's model, whose weights are always current.

        Of a sharded one, and for weights that are altered, make a copy.
        """
        if self._copies:
            if self._model is None or version != self.version:
                self._model = None  # its memory is used again
                self._model = self._copied(model)
        elif model is not self._model:
            require_position_ids(model)
            if self._graphs:
                require_fixed_shapes(model)
        self._model, self.version = self._model if self._copies else model, version

    @property
    def _copies(self) -> bool:
        return self.bare is not None or self._alter.of_weights

    def _copied(self, model: "PreTrainedModel") -> "PreTrainedModel":
        made = copy.deepcopy(model) if self.bare is None else _copy_of(model, self.bare)
        self._alter.apply(made)
        return made

    def rest(self) -> None:
        """Give back the copy of a model until the next `sync`."""
        if self._copies:
            self._model = None

    def generate(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        on_completion: OnCompletion = ignore_completion,
    ) -> list[list[Completion]]:
        if self._model is None:
            raise RuntimeError("TorchEngine.generate was called before sync: it has no model to sample from")
        if not any(seeds):  # with more ranks than prompts
            return [[] for _ in seeds]
        # Not inference_mode: a buffer that a forward updates under it (dynamic RoPE) can no longer be used in training.
        # Eager, because blocks compiled for updates would recompile in sampling, whose cache is another object each
        # step.
        with torch.no_grad(), evaluating(self._model), torch.compiler.set_stance("force_eager"):
            generation = Generation(
                self._model,
                prompts,
                seeds,
                sampling,
                self._eos_ids,
                self._pad_id,
                self._max_rows,
                self._graphs,
                self._alter,
            )
            rows: dict[int, Completion] = {}
            for ended in generation.run():
                rows |= ended
                for row, completion in ended.items():
                    on_completion(*generation.names[row], completion)
        found = iter(rows[row] for row in range(len(rows)))
        return [[next(found) for _ in group] for group in seeds]


def _copy_of(model: "PreTrainedModel", bare: "PreTrainedModel") -> "PreTrainedModel":
    from winnow import distributed
    from winnow.models.sharding import plain_copy

    distributed.all_gather(None)  # a rank that a signal has made leave is not waited for
    return plain_copy(model, bare)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context with all modules in eval mode (dropout off); afterwards each is back in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def require_position_ids(model: nn.Module) -> None:
    """Refuse an architecture that counts padding as positions: its samples would depend on their batch."""
    from transformers import PreTrainedModel

    causal_lm = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)
    if "position_ids" not in inspect.signature(causal_lm.forward).parameters:
        raise ConfigError(
            f"{type(causal_lm).__name__} takes no position_ids, so prompts of different lengths cannot be "
            "batched exactly: choose a decoder that does (Qwen, Llama, GPT-2, …)"
        )


def require_fixed_shapes(model: "PreTrainedModel") -> None:
    """Refuse models whose step cannot be captured in a CUDA graph.

    A captured step never returns to the host, as transformers' masks and rotary positions that depend on the length do.
    """
    from winnow.models.attention import is_packed

    if not is_packed(model):
        raise ConfigError(
            f"engine.graphs=true: {type(model).__name__} uses transformers' own attention here; leave it out, "
            "or type hardware.attention=auto if another attention was chosen"
        )
    rotation = (getattr(model.config.get_text_config(), "rope_parameters", None) or {}).get("rope_type", "default")
    if rotation in ("dynamic", "longrope"):
        raise ConfigError(f"engine.graphs=true: {rotation} rotary positions depend on the length; leave it out")
