"""Golden trajectories: loss, reward, KL and gradient norm of 20 iterations of each algorithm, in float64.

`make golden REASON="why they are others now"` records them anew. Runs are those of `small_gpt2`.
"""

import datetime
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from running import FAMILY, metrics
from small_gpt2 import train_on_sums

FILE = Path(__file__).parent / "trajectories.txt"
ALGORITHMS = FAMILY
ITERATIONS = 20
QUANTITIES = {
    "loss": "train/loss/total",
    "reward": "train/reward/mean",
    "kl": "train/kl_ref",
    "gradient norm": "train/grad_norm",
}
ABSENT = "-"
RELATIVE, ABSOLUTE = 1e-6, 1e-12
"""Tolerances. The absolute one is for what is 0 but for rounding, as the KL before the first update."""

Numbers = tuple[float | None, ...]
"""One iteration's quantities; None where there are none, as no update where nothing was kept."""
Trajectory = tuple[Numbers, ...]


@dataclass(frozen=True)
class Golden:
    """Trajectories by algorithm, the version of torch that gave them, and a line for each time they were recorded."""

    torch: str
    history: tuple[str, ...]
    trajectories: Mapping[str, Trajectory]


def torch_version() -> str:
    """The version without the build: 2.13.0 of 2.13.0+cpu."""
    return torch.__version__.split("+")[0]


def trajectory(algorithm: str, directory: Path) -> Trajectory:
    """A run of the algorithm, as `python train.py` makes it."""
    words = (f"iterations={ITERATIONS}", "checkpoint.every=1000", "eval.prompts=1", "hardware.threads=1")
    train_on_sums(directory, f"algo={algorithm}", *words)
    rows = [row for row in metrics(directory) if row["iteration"] > 0]
    return tuple(tuple(row.get(key) for key in QUANTITIES.values()) for row in rows)


def differences(found: Trajectory, golden: Trajectory) -> Iterator[str]:
    """A line for each number that is not the golden one."""
    if len(found) != len(golden):
        yield f"{len(found)} iterations, not {len(golden)}"
    for iteration, (numbers, expected) in enumerate(zip(found, golden, strict=False), 1):
        for name, a, b in zip(QUANTITIES, numbers, expected, strict=True):
            if not _same(a, b):
                yield f"iteration {iteration}: {name} is {a}, not {b}"


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


HEADER = f"""\
# Golden trajectories of each algorithm in float64: {", ".join(QUANTITIES)} of {ITERATIONS} iterations.
# tests/golden holds runs to them. To record them anew: make golden REASON="why they are others now"
# torch """
RECORDED = "# recorded "


def read_golden(file: Path = FILE) -> Golden:
    """The recorded trajectories; none if there is no file."""
    lines = file.read_text().splitlines() if file.exists() else []
    found: dict[str, list[Numbers]] = {}
    for line in lines:
        if not line.startswith("#"):
            algorithm, _, *numbers = line.split()
            found.setdefault(algorithm, []).append(tuple(None if n == ABSENT else float(n) for n in numbers))
    versions = [line.removeprefix("# torch ") for line in lines if line.startswith("# torch ")]
    history = tuple(line for line in lines if line.startswith(RECORDED))
    return Golden("".join(versions), history, {name: tuple(rows) for name, rows in found.items()})


def write_golden(golden: Golden, file: Path = FILE) -> None:
    """Write every number with all its digits, so that what is read is what was written."""
    lines = [HEADER + golden.torch, *golden.history]
    for algorithm, rows in golden.trajectories.items():
        for iteration, numbers in enumerate(rows, 1):
            lines.append(" ".join([algorithm, str(iteration), *(ABSENT if n is None else repr(n) for n in numbers)]))
    file.write_text("\n".join(lines) + "\n")


def changed(found: Mapping[str, Trajectory], golden: Mapping[str, Trajectory]) -> list[str]:
    """The algorithms whose trajectories are new or others, and those that are gone."""
    return [name for name in sorted({*found, *golden}) if any(differences(found.get(name, ()), golden.get(name, ())))]


def record(reason: str) -> str:
    """Record all trajectories if one has changed, with the reason in the file's history; a line about what was done."""
    before = read_golden()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: trajectory(name, Path(folder) / name) for name in ALGORITHMS}
    others = changed(found, before.trajectories)
    if not others and before.torch == torch_version():
        return "the recorded trajectories hold; nothing was written"
    line = (
        f"{RECORDED}{datetime.date.today()} on torch {torch_version()}, {', '.join(others) or 'none'} changed: {reason}"
    )
    write_golden(Golden(torch_version(), (*before.history, line), found))
    return f"{FILE.name}: {', '.join(others) or 'none'} changed; see git diff"


def reason_of(words: Sequence[str]) -> str:
    """The reason that the command line gives; without one the process ends, and nothing is recorded."""
    given = " ".join(" ".join(words).split())
    if not given:
        sys.exit('why are they others now? type make golden REASON="…"')
    return given


if __name__ == "__main__":
    print(record(reason_of(sys.argv[1:])))
