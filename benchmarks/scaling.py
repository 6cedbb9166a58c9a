"""What a sample costs as an iteration grows from 64 samples to 4,096: GRPO, 8 samples a prompt, ragged to 64 tokens, one update."""

from collections.abc import Sequence

from benchmarks.child import timed
from benchmarks.figures import Named, Skipped, Value, spread
from benchmarks.iteration import Iteration
from benchmarks.workload import Work

SAMPLES, TIMED = 8, {64: 4, 256: 3, 1024: 2, 4096: 1}
"""How many iterations are timed at each size, after one that is not."""
FIGURES = tuple(
    named
    for n in TIMED
    for named in (
        Named(f"cpu_s_per_sample_{n}", f"a sample, of {n:,} an iteration", "CPU-s", 4),
        Named(f"cpu_ms_per_completion_token_{n}", f"the same, a completion token, of {n:,} samples", "CPU-ms", 3),
    )
)


def skipped() -> Skipped | None:
    return None


def measured() -> tuple[dict[str, Value], list[dict]]:
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
    """The lengths of a few prompts say little of those of many: the cost of a token is what compares across sizes."""
    return {
        **spread(f"cpu_s_per_sample_{n}", [i.step.cpu / len(i.rows) for i in iterations]),
        **spread(f"cpu_ms_per_completion_token_{n}", [1000 * i.step.cpu / i.completion_tokens for i in iterations]),
    }
