"""Calibration of this machine's CPU: what matrix products, memory, decoding and updates cost, in CPU seconds.

Updates and decodings of small random models are timed, and the costs of their units of work are fitted by least squares
without negative costs. All run on one thread, in float32.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from winnow.engines.torch_engine import TorchEngine
from winnow.models.architecture import settle_attention
from winnow.models.policy import Policy
from winnow.models.shape import DecoderShape, ModelShape
from winnow.packed import pack
from winnow.plan.cpu_work import FLOAT, decoding_units, update_units
from winnow.plan.machine import Costs, Machine, Units
from winnow.plan.work import Tokens
from winnow.rng import seed_of
from winnow.types import Prompt, Row, Sampling

PROMPT = 32
REPEATS = 2
"""Times that each piece of work is done after the first, which is not counted; the fastest counts."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A random model, and the work that is timed with it: rows that are decoded or trained, of so many tokens."""

    shape: DecoderShape
    rows: tuple[int, ...]
    tokens: int


def _probe(layers: int, width: int, vocabulary: int, rows: tuple[int, ...], tokens: int) -> Probe:
    heads = max(1, width // 64)
    shape = DecoderShape(
        "", layers, width, 4 * width, 2 * heads, heads, width // (2 * heads), vocabulary, 512, tied=True, biases=True
    )
    return Probe(shape, rows, tokens)


PROBES = (
    _probe(2, 64, 512, (16, 192), 48),
    _probe(8, 128, 1024, (16, 64), 32),
    _probe(4, 256, 4096, (8, 64), 32),
    _probe(2, 256, 16384, (8, 48), 24),
)


def calibrated() -> Machine:
    """The costs of this machine, without those of bookkeeping."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        updates, decodings, adam = [], [], []
        for probe in PROBES:
            model = _model(probe.shape)
            sizes = probe.shape.sizes()
            adam.append(_adam_rate(model))
            for rows in probe.rows:
                updates.append(_update(model, sizes, rows, probe.tokens))
                decodings.append(_decoding(model, sizes, rows, probe.tokens))
        return Machine(
            measured=f"{date.today().isoformat()}, one thread, torch {torch.__version__}",
            flops=_peak(),
            bandwidth=_bandwidth(),
            update=_fitted(updates, ("flop", "activation", "logit", "call")),
            decoding=_fitted(decodings, ("flop", "weight", "cache", "logit", "call", "step")),
            adam=float(np.median(adam)),
            row=0.0,
            iteration=0.0,
        )
    finally:
        torch.set_num_threads(before)


def _fitted(measured: Sequence[tuple[Units, float]], names: Sequence[str]) -> Costs:
    """The costs, none negative, whose sums are closest to the measured seconds, in relation to each of them."""
    work = np.array([[getattr(units, name) for name in names] for units, _ in measured])
    seconds = np.array([taken for _, taken in measured])
    scale = (work / seconds[:, None]).max(0)
    scale[scale == 0] = 1.0  # a unit that no work has
    found, _ = nnls(work / seconds[:, None] / scale, np.ones(len(seconds)))
    return Costs(**dict(zip(names, (found / scale).tolist(), strict=True)))


def _model(shape: DecoderShape) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=shape.vocabulary,
                hidden_size=shape.width,
                intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                max_position_embeddings=shape.positions,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=0,
            )
        )
    settle_attention(model, None)
    return model


def _update(model: PreTrainedModel, sizes: ModelShape, rows: int, tokens: int) -> tuple[Units, float]:
    """The units of a forward and backward over `rows` rows, four of a prompt, and the seconds that they take."""
    policy = Policy(model, 1.0)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, sizes.vocabulary, (rows, tokens), generator=draw).tolist()
    packed = pack([Row(_prompt(i // 4, sizes) + tuple(ids[i]), PROMPT) for i in range(rows)])

    def work() -> None:
        policy.zero_grad()
        (-policy(packed).logprobs.sum()).backward()

    prompts = -(-rows // 4)
    context = prompts * PROMPT**2 / 2 + rows * (tokens * PROMPT + tokens**2 / 2)
    counted = Tokens(prompts * PROMPT, rows * tokens, context)
    return update_units(sizes, counted, 1, recompute=False), _seconds(work)


def _decoding(model: PreTrainedModel, sizes: ModelShape, rows: int, tokens: int) -> tuple[Units, float]:
    """The units of decoding `rows` rows of `tokens` tokens, four of a prompt, and the seconds that they take."""
    engine = TorchEngine(())
    engine.sync(model, 0)
    prompts = [Prompt("", _prompt(i, sizes), "", "") for i in range(-(-rows // 4))]
    seeds = [[seed_of("probe", p, g) for g in range(4)] for p in range(len(prompts))]
    sampling = Sampling(1.0, tokens)
    rows = 4 * len(prompts)
    context = rows * (tokens * PROMPT + tokens**2 / 2)
    taken = _seconds(lambda: engine.generate(prompts, seeds, sampling))
    return decoding_units(sizes, tokens, rows * tokens, context), taken


def _adam_rate(model: PreTrainedModel) -> float:
    """Bytes per second of clipping and AdamW's step, at 28 bytes a parameter."""
    parameters = [*model.parameters()]
    optimiser = AdamW(parameters, lr=1e-9)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)

    def step() -> None:
        clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return 28 * sum(parameter.numel() for parameter in parameters) / _seconds(step)


def _prompt(number: int, sizes: ModelShape) -> tuple[int, ...]:
    return tuple((number * PROMPT + i) % sizes.vocabulary for i in range(PROMPT))


def _peak(size: int = 1536) -> float:
    """FLOP per CPU second of a product of two float32 matrices."""
    a, b = torch.randn(2, size, size)
    return 2 * size**3 / _seconds(lambda: torch.mm(a, b))


def _bandwidth(size: int = 2**25) -> float:
    """Bytes per CPU second that copying a tensor too large for the caches reads and writes."""
    source, target = torch.randn(2, size)

    def copy() -> Tensor:
        return target.copy_(source)

    return 2 * FLOAT * size / _seconds(copy)


def _seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of the fastest of `REPEATS` after a first that is not counted."""
    work()
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
