"""Cost against size: peak memory of an update by vocabulary and length, CPU seconds per sample by iteration size.

Memory is measured in one process per point, on one completion, with a body too small to matter. It is the peak above
what the process holds when the update begins (weights, AdamW's moments, the rollout). The gradients of the weights
belong to the update and are therefore included.
"""

from collections.abc import Sequence

from torch import nn

from benchmarks.process import can_measure_memory, peak_memory, reset_peak_memory
from benchmarks.records import Measurement, Named, Part, Value, spread
from benchmarks.runs import Iteration, Observer, timed
from benchmarks.workload import Shape, Work

# --- memory of an update --------------------------------------------------------------------------------------------

VOCABULARIES, LENGTHS = (2048, 8192, 32768), (1024, 4096)
LARGEST = f"{VOCABULARIES[-1]}x{LENGTHS[-1]}"


class UpdatePeak(Observer):
    """Observer of the bytes that an update takes above what is resident when it begins."""

    def before_update(self) -> None:
        self.before = reset_peak_memory()

    def after(self, model: nn.Module, iteration: Iteration) -> None:
        self.found.append({"update_peak_bytes": float(peak_memory() - self.before)})


def memory_skipped() -> str | None:
    """Reason for a skip: peak memory is read from /proc."""
    return None if can_measure_memory() else "peak memory is read from /proc, which this system does not have"


def measured_memory() -> Measurement:
    """Measure one process per vocabulary and length."""
    peaks: dict[str, float] = {}
    for length in LENGTHS:
        for vocabulary in VOCABULARIES:
            shape = Shape(hidden=64, layers=1, heads=2, kv_heads=1, vocab=vocabulary, positions=2 * LENGTHS[-1])
            work = Work(shape, prompts=1, samples=1, max_tokens=length, prompt_tokens=16, iterations=2, forced=True)
            (found,) = timed(work, ["algo=reinforce"], 1, UpdatePeak)
            peaks[f"{vocabulary}x{length}"] = found.observed["update_peak_bytes"] / 2**20
            print(f"  vocabulary {vocabulary}, {length} tokens: {peaks[f'{vocabulary}x{length}']:.0f} MiB", flush=True)
    return memory_growth(peaks), [{"point": point, "mib": mib} for point, mib in peaks.items()]


def memory_growth(peaks: dict[str, float]) -> dict[str, Value]:
    """Figures from peaks in MiB by `VOCABULARYxLENGTH`."""
    logits = VOCABULARIES[-1] * LENGTHS[-1] * 4 / 2**20
    return {
        **{f"update_peak_mib_{point}": mib for point, mib in peaks.items()},
        "update_peak_over_logits": peaks[LARGEST] / logits,
        "update_peak_growth_vocabulary": peaks[LARGEST] / peaks[f"{VOCABULARIES[0]}x{LENGTHS[-1]}"],
    }


MEMORY = Part(
    "memory",
    "Peak memory of an update as vocabulary and length grow: one process per point, one completion, a body too small to"
    " matter.",
    (
        *(
            Named(f"update_peak_mib_{v}x{t}", f"update on one completion of {t:,} tokens, vocabulary {v:,}", "MiB", 0)
            for t in LENGTHS
            for v in VOCABULARIES
        ),
        Named(
            "update_peak_over_logits",
            f"the largest point ÷ one float32 table of {LENGTHS[-1]:,} × {VOCABULARIES[-1]:,} logits",
        ),
        Named(
            "update_peak_growth_vocabulary",
            f"factor on the peak for a vocabulary × 16, at {LENGTHS[-1]:,} tokens",
            "×",
        ),
    ),
    measured_memory,
    memory_skipped,
)

# --- CPU seconds of a sample ----------------------------------------------------------------------------------------

SAMPLES = 8
TIMED = {64: 4, 256: 3, 1024: 2, 4096: 1}
"""Timed iterations by samples per iteration; each process runs one more iteration to warm up."""


def measured() -> Measurement:
    """Measure one process per number of samples."""
    figures: dict[str, Value] = {}
    raw: list[dict] = []
    for n, count in TIMED.items():
        work = Work(prompts=n // SAMPLES, samples=SAMPLES, max_tokens=64, iterations=1 + count)
        iterations = [t.iteration for t in timed(work, ["algo=grpo"], warm_up=1)]
        figures |= costs(n, iterations)
        raw += [
            {"samples": n, "cpu_s": i.step.cpu, "wall_s": i.step.wall, "completion_tokens": i.completion_tokens}
            for i in iterations
        ]
        print(f"  {n} samples: {figures[f'cpu_s_per_sample_{n}']:.4f} CPU-s each", flush=True)
    return figures, raw


def costs(n: int, iterations: Sequence[Iteration]) -> dict[str, Value]:
    """Cost per sample and per completion token at `n` samples per iteration.

    Only the cost per token compares across sizes, because the lengths of a few prompts say little about those of many.
    """
    return {
        **spread(f"cpu_s_per_sample_{n}", [i.step.cpu / len(i.rows) for i in iterations]),
        **spread(f"cpu_ms_per_completion_token_{n}", [1000 * i.step.cpu / i.completion_tokens for i in iterations]),
    }


SCALING = Part(
    "scaling",
    "Cost of a sample as an iteration grows from 64 samples to 4,096: GRPO, 8 samples per prompt, ragged to 64 tokens,"
    " one update.",
    tuple(
        named
        for n in TIMED
        for named in (
            Named(f"cpu_s_per_sample_{n}", f"per sample, at {n:,} samples per iteration", "CPU-s", 4),
            Named(f"cpu_ms_per_completion_token_{n}", f"per completion token, at {n:,} samples", "CPU-ms", 3),
        )
    ),
    measured,
)
