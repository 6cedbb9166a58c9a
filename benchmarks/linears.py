"""The linear layers of a model and nothing else: what no implementation of sampling or training can do without.

A bound in CPU seconds, measured by doing it: `torch.nn.functional.linear` with the model's own weights, at the rows that the work
has, in the same process and with the same threads. Attention, norms, rotary embeddings, softmax and sampling count nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedConfig

from benchmarks.iteration import Drawn

BLOCK = 2048
"""Tokens that go through a layer at once in an update, at most. 1,024 and 4,096 are as fast: 92–94 GFLOP/s on an AMD EPYC core."""


@dataclass(frozen=True, slots=True)
class Layer:
    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"] | None


@dataclass(frozen=True, slots=True)
class Linears:
    """`body` is every linear layer but the last, which is `head`."""

    body: list[Layer]
    head: Layer


def linears_of(model: nn.Module) -> Linears:
    """As they lie in `model`, in their order."""
    head = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    assert isinstance(head, nn.Linear)
    body = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    return Linears([_layer(m) for m in body], _layer(head))


def _layer(module: nn.Linear) -> Layer:
    return Layer(module.weight.detach(), None if module.bias is None else module.bias.detach())


@dataclass(frozen=True, slots=True)
class SamplingWork:
    """What drawing an iteration's rows requires. `live[t]` rows are fed one more token at step t: those that it did not end."""

    prompts: int
    prompt_tokens: int
    live: list[int]


@dataclass(frozen=True, slots=True)
class UpdateWork:
    """What learning from rows requires: `tokens` through the body, each prompt once and each response token once; `responses`,
    the response tokens, through the head. `context` sums over the tokens of the body how many each attends to, itself included."""

    tokens: int
    responses: int
    context: int


def sampling_work(rows: Sequence[Drawn]) -> SamplingWork:
    """Each prompt once; every response token but a row's last is fed, for the one after it."""
    prompts = {row.prompt: row.prompt_tokens for row in rows}
    longest = max(row.tokens for row in rows)
    live = [sum(row.tokens > t for row in rows) for t in range(1, longest)]
    return SamplingWork(len(prompts), sum(prompts.values()), live)


def update_work(rows: Sequence[Drawn]) -> UpdateWork:
    prompts = {row.prompt: row.prompt_tokens for row in rows}
    responses = sum(row.tokens for row in rows)
    context = sum(_up_to(length) for length in prompts.values())
    context += sum(_up_to(row.prompt_tokens + row.tokens) - _up_to(row.prompt_tokens) for row in rows)
    return UpdateWork(sum(prompts.values()) + responses, responses, context)


def _up_to(length: int) -> int:
    """1 + 2 + … + `length`."""
    return length * (length + 1) // 2


def update_flops(linears: Linears, config: PreTrainedConfig, work: UpdateWork) -> float:
    """Of forward and backward, which is three forwards: 2 a weight and token, and 4 a layer, token, width of the heads and position
    attended to (Q·K and A·V). As in PaLM's model-FLOPs utilisation (arXiv 2204.02311, appendix B), but that causal attention counts
    the positions it sees, and the shared prompt counts once."""
    heads: int = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    weights = work.tokens * sum(layer.weight.numel() for layer in linears.body)
    weights += work.responses * linears.head.weight.numel()
    return 3.0 * (2 * weights + 4 * config.num_hidden_layers * width * work.context)


def sampling_bound(linears: Linears, work: SamplingWork) -> float:
    """CPU seconds: all prompt tokens through the body, the last of each through the head; each step's live rows through both."""
    inputs = _inputs(linears, max(min(BLOCK, work.prompt_tokens), work.prompts, *work.live, 1))
    began = time.process_time()
    with torch.no_grad():
        for rows in _blocks(work.prompt_tokens):
            _forward(linears.body, inputs, rows)
        _forward([linears.head], inputs, work.prompts)
        for rows in work.live:
            _forward(linears.body, inputs, rows)
            _forward([linears.head], inputs, rows)
    return time.process_time() - began


def update_bound(linears: Linears, work: UpdateWork) -> float:
    """CPU seconds of the forward product and both of backward, for the tokens of the body and for those of the head."""
    inputs = _inputs(linears, min(BLOCK, max(work.tokens, 1)))
    began = time.process_time()
    with torch.no_grad():
        for rows in _blocks(work.tokens):
            _forward_backward(linears.body, inputs, rows)
        for rows in _blocks(work.responses):
            _forward_backward([linears.head], inputs, rows)
    return time.process_time() - began


def sampling_bytes(linears: Linears, config: PreTrainedConfig, rows: Sequence[Drawn], item: int) -> float:
    """What sampling must read from memory, `item` bytes a number: at every step all weights of the linear layers once, and the keys
    and values of every live row so far. The prompts' forward is left out: it is bound by arithmetic."""
    heads: int = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    cached = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    weights = sum(layer.weight.numel() for layer in [*linears.body, linears.head])
    steps = max(row.tokens for row in rows) - 1
    # Feeding token t of a response attends to its prompt and t tokens.
    context = sum((row.tokens - 1) * row.prompt_tokens + _up_to(row.tokens - 1) for row in rows)
    return float(item * (steps * weights + cached * context))


def peak_flops_per_second(size: int = 2048, repeats: int = 3) -> float:
    """The best of some products of two float32 matrices of `size` × `size`, a CPU second."""
    a, b = torch.randn(2, size, size)
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - began)
    return 2 * size**3 / min(seconds)


def _blocks(tokens: int) -> list[int]:
    """Of equal size ±1, none above `BLOCK`."""
    count = -(-tokens // BLOCK)  # rounded up
    return [tokens * (i + 1) // count - tokens * i // count for i in range(count)]


def _forward(layers: Sequence[Layer], inputs: dict[int, Tensor], rows: int) -> None:
    for layer in layers:
        linear(inputs[layer.weight.shape[1]][:rows], layer.weight, layer.bias)


def _forward_backward(layers: Sequence[Layer], inputs: dict[int, Tensor], rows: int) -> None:
    for layer in layers:
        x = inputs[layer.weight.shape[1]][:rows]
        y = linear(x, layer.weight, layer.bias)
        torch.mm(y, layer.weight)  # the gradient of x: y stands for its own gradient
        torch.mm(y.t(), x)  # the gradient of the weight


def _inputs(linears: Linears, rows: int) -> dict[int, Tensor]:
    """One table a width, of rows that are read again and again."""
    like = linears.head.weight
    widths = {layer.weight.shape[1] for layer in [*linears.body, linears.head]}
    return {width: torch.randn(rows, width, dtype=like.dtype, device=like.device) for width in widths}
