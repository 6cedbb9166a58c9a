"""Peak memory of an update, against vocabulary and length: a process a point, one response, a body too small to matter.

Counted is what the process takes above what it holds when an update begins (weights, AdamW's moments, the rollout). Gradients of
the weights are part of an update, and therefore of the figure.
"""

from benchmarks import resident
from benchmarks.child import timed
from benchmarks.figures import Named, Skipped, Value
from benchmarks.workload import Shape, Work

VOCABULARIES, LENGTHS = (2048, 8192, 32768), (1024, 4096)
LARGEST = f"{VOCABULARIES[-1]}x{LENGTHS[-1]}"
FIGURES = (
    *(
        Named(f"update_peak_mib_{v}x{t}", f"update on one response of {t:,} tokens, vocabulary {v:,}", "MiB", 0)
        for t in LENGTHS
        for v in VOCABULARIES
    ),
    Named("update_peak_over_logits", f"the last, ÷ one float32 table of {LENGTHS[-1]:,} × {VOCABULARIES[-1]:,} logits"),
    Named("update_peak_growth_vocabulary", f"at {LENGTHS[-1]:,} tokens: vocabulary × 16 multiplies the peak by", "×"),
)


def skipped() -> Skipped | None:
    return None if resident.available() else Skipped("peak memory is read from /proc, which this system does not have")


def measured() -> tuple[dict[str, Value], list[dict]]:
    peaks: dict[str, float] = {}
    for length in LENGTHS:
        for vocabulary in VOCABULARIES:
            shape = Shape(hidden=64, layers=1, heads=2, kv_heads=1, vocab=vocabulary, positions=2 * LENGTHS[-1])
            work = Work(shape, prompts=1, samples=1, max_tokens=length, prompt_tokens=16, iterations=2, forced=True)
            (found,) = timed(work, ["algo=reinforce"], warm_up=1, observer="update_peak")
            peaks[f"{vocabulary}x{length}"] = found.observed["update_peak_bytes"] / 2**20
            print(f"  vocabulary {vocabulary}, {length} tokens: {peaks[f'{vocabulary}x{length}']:.0f} MiB", flush=True)
    return growth(peaks), [{"point": point, "mib": mib} for point, mib in peaks.items()]


def growth(peaks: dict[str, float]) -> dict[str, Value]:
    """`peaks` in MiB, by `VOCABULARYxLENGTH`."""
    logits = VOCABULARIES[-1] * LENGTHS[-1] * 4 / 2**20
    return {
        **{f"update_peak_mib_{point}": mib for point, mib in peaks.items()},
        "update_peak_over_logits": peaks[LARGEST] / logits,
        "update_peak_growth_vocabulary": peaks[LARGEST] / peaks[f"{VOCABULARIES[0]}x{LENGTHS[-1]}"],
    }
