"""Costs on a CUDA GPU: steps against TRL, sampling against memory bandwidth, updates against peak arithmetic.

TRL's step is that of the faster of its two engines. Models have random weights and the width and depth of Qwen2.5-0.5B
and -1.5B, with the MLP of TRL's script (four widths). An iteration has 64 prompts of 8 samples with ragged lengths up
to 1,024, and both sides use float32 weights under bfloat16 autocast. Seconds are wall time with the device
synchronised.
"""

import os
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn
from transformers import PreTrainedConfig

from benchmarks import matmul, trl
from benchmarks.records import Measurement, Named, Part, Value, spread
from benchmarks.runs import Iteration, Observer, Timed, timed
from benchmarks.workload import Shape, Work
from winnow.plan.gpu import Gpu, gpu_reported

WARM_UP, TIMED = 2, 3
TOKEN_BUDGET = 8192  # as in conf/model/qwen.yaml, for one 80 GB GPU
THEIR_MICRO = 8  # rows in a micro-batch of TRL's: 8 × (64 + 1,024) padded tokens
SHAPES = {
    "0.5b": Shape(hidden=896, layers=24, heads=14, kv_heads=2, vocab=151_936),
    "1.5b": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, vocab=151_936),
}


class OnCuda(Observer):
    """Observer of the work of each iteration under bfloat16 autocast, and of the peak of allocated memory so far."""

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        layers, update = matmul.linears_of(model), matmul.update_work(iteration.trained)
        config: PreTrainedConfig = model.config  # pyright: ignore[reportAssignmentType]
        self.found.append(
            {
                "update_flops": matmul.update_flops(layers, config, update),
                "sampling_bytes": matmul.sampling_bytes(layers, config, iteration.rows, item=2),
                "peak_bytes": float(torch.cuda.max_memory_allocated()),
            }
        )


def skipped() -> str | None:
    """Reason for a skip: torch sees no CUDA device."""
    return None if torch.cuda.is_available() else "torch sees no CUDA device here"


def measured(shapes: Sequence[str] = tuple(SHAPES)) -> Measurement:
    """Measure both sides for each of `shapes`."""
    device = torch.cuda.get_device_name()
    gpu = gpu_reported(device)
    figures: dict[str, Value] = {}
    raw: list[dict] = []
    if gpu is None:
        figures["cuda_peaks"] = f"{device}: not in the table of peaks (winnow/plan/gpus.yaml), so no share of them"
    else:
        figures["cuda_peaks"] = f"{gpu.flops / 1e12:.0f} TFLOP/s, {gpu.bandwidth / 1e9:.0f} GB/s: {gpu.source}"
    no_trl = trl.skipped()
    if no_trl is not None:
        figures["cuda_trl"] = f"no comparison with TRL: {no_trl}"
    for name in shapes:
        work = Work(
            SHAPES[name],
            prompts=64,
            samples=8,
            max_tokens=1024,
            iterations=WARM_UP + TIMED,
            hardware=("hardware=gpu", f"hardware.token_budget={TOKEN_BUDGET}"),
        )
        found = timed(work, ["algo=grpo"], WARM_UP, OnCuda)
        figures |= ours(name, found, gpu)
        raw += [{"shape": name, "side": "ours", **trl.summary(t.iteration), **t.observed} for t in found]
        if no_trl is None:
            theirs = [their_step(work, engine) for engine in ("generate", "cb")]
            figures |= against(name, found, theirs)
            raw += [{"shape": name, "side": "trl", **result} for result in theirs]
        print(f"  {name}: {figures[f'cuda_step_{name}_s']:.1f} s a step", flush=True)
    return figures, raw


def their_step(work: Work, engine: str) -> dict:
    """The RESULT line of TRL's script with one of its engines."""
    return trl.their_step(
        os.environ["BENCH_TRL"], work, WARM_UP, "--engine", engine, "--bf16", "--micro", str(THEIR_MICRO)
    )


def ours(name: str, found: Sequence[Timed], gpu: Gpu | None) -> dict[str, Value]:
    """Figures of our side; shares of the peaks only for a GPU whose peaks are known."""
    seconds = [t.iteration for t in found]
    figures: dict[str, Value] = {
        **spread(f"cuda_step_{name}_s", [i.step.wall for i in seconds]),
        **spread(f"cuda_rollout_{name}_s", [i.rollout.wall for i in seconds]),
        **spread(f"cuda_update_{name}_s", [i.update.wall for i in seconds]),
        **spread(f"cuda_rollout_tokens_per_s_{name}", [i.completion_tokens / i.rollout.wall for i in seconds]),
        f"cuda_peak_gib_{name}": max(t.observed["peak_bytes"] for t in found) / 2**30,
    }
    if gpu is not None:
        read = [t.observed["sampling_bytes"] / gpu.bandwidth / t.iteration.rollout.wall for t in found]
        used = [t.observed["update_flops"] / gpu.flops / t.iteration.update.wall for t in found]
        figures |= spread(f"cuda_rollout_share_of_bandwidth_{name}", read) | spread(f"cuda_update_mfu_{name}", used)
    return figures


def against(name: str, found: Sequence[Timed], theirs: Sequence[dict]) -> dict[str, Value]:
    """Figures of the comparison with the faster of TRL's engines."""
    best = min(theirs, key=lambda result: result["s_per_step"])
    peak = max(t.observed["peak_bytes"] for t in found) / 2**30
    return {
        f"cuda_trl_over_ours_{name}": best["s_per_step"] / median(t.iteration.step.wall for t in found),
        f"cuda_trl_memory_share_{name}": peak / best["peak_gib"],
        f"cuda_trl_engine_{name}": best["engine"],
    }


PART = Part(
    "cuda",
    "Costs on a CUDA GPU: steps against TRL, sampling against memory bandwidth, updates against peak arithmetic.",
    tuple(
        named
        for name in SHAPES
        for named in (
            Named(f"cuda_trl_over_ours_{name}", f"TRL's step ÷ ours, {name}: the faster of its engines", "×"),
            Named(f"cuda_trl_memory_share_{name}", "our peak of allocated memory ÷ TRL's"),
            Named(f"cuda_step_{name}_s", "our step", "s"),
            Named(f"cuda_rollout_{name}_s", "of that, sampling, judging and scoring", "s"),
            Named(f"cuda_update_{name}_s", "of that, the update", "s"),
            Named(f"cuda_rollout_tokens_per_s_{name}", "sampled tokens per second of sampling", "tokens/s", 0),
            Named(f"cuda_rollout_share_of_bandwidth_{name}", "sampling: seconds to read what it must ÷ measured"),
            Named(f"cuda_update_mfu_{name}", "update: model FLOPs ÷ (seconds × peak)"),
            Named(f"cuda_peak_gib_{name}", "peak of allocated memory", "GiB", 1),
        )
    ),
    measured,
    skipped,
)
