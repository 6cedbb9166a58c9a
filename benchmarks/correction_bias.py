"""Bias of Reinforce with a sampler that is off, without a correction and with two, over ten environments of the oracle.

`python -m benchmarks.correction_bias` prints the table of docs/mismatch.md. Another seed is another policy and another
sampler. For sums over tokens the bias does not depend on the number of samples, so that one of each prompt is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from winnow.assemble.oracle import Asked, oracle

SEEDS = range(10)
PLAIN = ("algo=reinforce", "algo/clip=none", "algo/aggregate=sequence_sum")
CORRECTIONS = ("none", "truncated", "sequence_truncated")
BITS = ("engine/alter=int8", "engine.alter.bits=3")
DEFAULT = Asked(samples=1)


@dataclass(frozen=True)
class Off:
    """A sampler that is off: its words, and the environment that it is in."""

    title: str
    words: tuple[str, ...]
    asked: Asked = DEFAULT

    def biases(self, correction: str) -> list[float]:
        """The bias in each of the environments."""
        words = (*PLAIN, *self.words, f"algo/correction={correction}")
        return [oracle(words, replace(self.asked, seed=seed))[1].measured.bias for seed in SEEDS]


THREE = replace(DEFAULT, vocabulary=3, horizon=2)
SAMPLERS = (
    Off("`engine/alter=int8`", ("engine/alter=int8",)),
    Off("`engine/alter=int8 engine.alter.bits=3`", BITS),
    Off("`--mismatch 0.5`", (), replace(DEFAULT, mismatch=0.5)),
    Off("`engine/alter=temperature`", ("engine/alter=temperature",)),
    Off("3 bits, `--horizon 1`", BITS, replace(DEFAULT, horizon=1)),
    Off("3 bits, `--horizon 2`", BITS, replace(DEFAULT, horizon=2)),
    Off("3 bits, `--horizon 6`", BITS, replace(DEFAULT, horizon=6)),
    Off("3 bits, `--horizon 12`", BITS, replace(DEFAULT, horizon=12)),
    Off("3 bits, `--vocabulary 3 --horizon 2`", BITS, THREE),
    Off("`--mismatch 0.5 --vocabulary 3 --horizon 2`", (), replace(THREE, mismatch=0.5)),
)


def row(sampler: Off) -> str:
    """Median biases, and the median and range of the share that each correction removes."""
    plain, *corrected = (sampler.biases(correction) for correction in CORRECTIONS)
    cells = [f"{median(plain):.2g}", *(f"{median(each):.2g}" for each in corrected)]
    cells += [_shares(plain, each) for each in corrected]
    return f"| {sampler.title} | {' | '.join(cells)} |"


def _shares(plain: Sequence[float], corrected: Sequence[float]) -> str:
    removed = [100 * (1 - after / before) for before, after in zip(plain, corrected, strict=True)]
    return f"{median(removed):.0f} % ({min(removed):.0f} to {max(removed):.0f})"


if __name__ == "__main__":
    print("| sampler | bias | by token | by response | removed by token | removed by response |")
    print("|---|---:|---:|---:|---:|---:|")
    for sampler in SAMPLERS:
        print(row(sampler), flush=True)
