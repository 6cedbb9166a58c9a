"""Cost of a rejecting algorithm's update against the share of rows that it keeps.

One run per algorithm cycles through the shares: all rows kept, half of them, a quarter, and again. RAFT++ keeps that
share of each prompt's eight samples. Reinforce-Rej keeps all samples of that share of the prompts, and rejects prompts
whose samples are all right or all wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.records import Measurement, Named, Part, Value, ratios, spread
from benchmarks.runs import Iteration, timed
from benchmarks.workload import Work

PROMPTS, SAMPLES, ROUNDS = 8, 8, 3
MIXED, RIGHT, WRONG = "10101010", "11111111", "00000000"


@dataclass(frozen=True, slots=True)
class Rejecting:
    """A rejecting algorithm: for each share of rows kept, the verdict patterns that make it keep that share.

    The patterns of a share are repeated in turn for `PROMPTS` prompts.
    """

    algo: str
    suffix: str
    patterns: dict[float, tuple[str, ...]]

    def round(self) -> tuple[str, ...]:
        """The patterns of one iteration per share."""
        return tuple(found[i % len(found)] for found in self.patterns.values() for i in range(PROMPTS))


ALGORITHMS = (
    Rejecting("raftpp", "", {1.0: (RIGHT,), 0.5: ("11110000",), 0.25: ("11000000",)}),
    Rejecting(
        "reinforce_rej", "_reinforce_rej", {1.0: (MIXED,), 0.5: (MIXED, RIGHT), 0.25: (MIXED, RIGHT, WRONG, RIGHT)}
    ),
)


def measured() -> Measurement:
    """Measure one run per algorithm."""
    figures: dict[str, Value] = {}
    raw: list[dict] = []
    for a in ALGORITHMS:
        shares = list(a.patterns)
        work = Work(
            prompts=PROMPTS,
            samples=SAMPLES,
            iterations=len(shares) * (1 + ROUNDS),
            forced=True,
            patterns=a.round(),
        )
        iterations = [t.iteration for t in timed(work, [f"algo={a.algo}"], warm_up=len(shares))]
        figures |= costs(a.suffix, shares, iterations)
        raw += [
            {"algo": a.algo, "kept": len(i.trained), "rows": len(i.rows), "update_cpu_s": i.update.cpu}
            for i in iterations
        ]
        print(f"  {a.algo}: {figures[f'update_cost_at_quarter_kept{a.suffix}']:.2f} at a quarter", flush=True)
    return figures, raw


def costs(suffix: str, shares: Sequence[float], iterations: Sequence[Iteration]) -> dict[str, Value]:
    """Figures of iterations that cycle through `shares`; ratios are taken within each cycle.

    Raises:
        RuntimeError: an iteration kept another share than the scripted one.
    """
    by_share = {share: iterations[i :: len(shares)] for i, share in enumerate(shares)}
    for share, found in by_share.items():
        if any(len(i.trained) != share * len(i.rows) for i in found):
            raise RuntimeError(f"scripted to keep {share} of the rows; kept {[len(i.trained) for i in found]}")
    seconds = {share: [i.update.cpu for i in found] for share, found in by_share.items()}
    return {
        **spread(f"update_cost_at_quarter_kept{suffix}", ratios(seconds[0.25], seconds[1.0])),
        **spread(f"update_cost_at_half_kept{suffix}", ratios(seconds[0.5], seconds[1.0])),
        **spread(f"update_all_kept{suffix}_cpu_s", seconds[1.0]),
    }


PART = Part(
    "kept",
    "Cost of a rejecting algorithm's update against the share of rows that it keeps.",
    tuple(
        named
        for a in ALGORITHMS
        for named in (
            Named(f"update_cost_at_quarter_kept{a.suffix}", f"{a.algo}: update with a quarter of the rows kept ÷ all"),
            Named(f"update_cost_at_half_kept{a.suffix}", f"{a.algo}: update with half of the rows kept ÷ all"),
            Named(f"update_all_kept{a.suffix}_cpu_s", f"{a.algo}: update on 64 rows of 128 tokens", "CPU-s"),
        )
    ),
    measured,
)
