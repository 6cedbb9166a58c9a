"""Start-up time of `train.py`: one process per measurement, with the package's files in the system's cache."""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple

from benchmarks.records import Measurement, Named, Part, Value, spread
from benchmarks.runs import environment

REPEATS = 5
SCRIPT = Path(__file__).parents[1] / "train.py"
SMALL = ("debug=default", "iterations=1", "hardware.threads=1", "eval.prompts=1")


@dataclass(frozen=True, slots=True)
class Case:
    """A command, given by the arguments of `train.py`."""

    name: str
    says: str
    words: tuple[str, ...]


CASES = (
    Case("help", "`python train.py --help`", ("--help",)),
    Case("cfg_job", "`python train.py --cfg job`", ("--cfg", "job")),
    Case("run", f"`python train.py {' '.join(SMALL)}`, whole", SMALL),
)


def measured(repeats: int = REPEATS) -> Measurement:
    """Measure each command `repeats` times."""
    figures: dict[str, Value] = {}
    raw: list[dict] = []
    for case in CASES:
        with TemporaryDirectory() as name:
            started = [start(case.words, Path(name) / str(i)) for i in range(repeats)]
        figures |= spread(f"startup_{case.name}_s", [s.wall for s in started])
        figures |= spread(f"startup_{case.name}_cpu_s", [s.cpu for s in started])
        if first := [s.first for s in started if s.first is not None]:
            figures |= spread("startup_first_iteration_s", first)
        raw += [{"case": case.name, "wall_s": s.wall, "cpu_s": s.cpu, "first_iteration_s": s.first} for s in started]
        print(f"  {case.name}: {figures[f'startup_{case.name}_s']:.2f} s", flush=True)
    return figures, raw


class Started(NamedTuple):
    """Wall and CPU seconds of a command, and the wall seconds until its first iteration began, if it had one.

    The first iteration begins when the accuracy before training has been written to `metrics.jsonl`.
    """

    wall: float
    cpu: float
    first: float | None


def start(words: Sequence[str], directory: Path) -> Started:
    """Run `train.py` with the arguments `words` in `directory` and time it.

    Raises:
        RuntimeError: the command failed; the message holds the end of its output.
    """
    command = [sys.executable, str(SCRIPT), *words, f"hydra.run.dir={directory}"]
    before, began, first = _cpu_of_children(), time.perf_counter(), None
    with TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment(), stdout=said, stderr=said)
        while process.poll() is None:
            if first is None and (directory / "metrics.jsonl").is_file():
                first = time.perf_counter() - began
            time.sleep(0.005)
        wall = time.perf_counter() - began
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-3000:]}")
    return Started(wall, _cpu_of_children() - before, first)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


PART = Part(
    "startup",
    "Start-up time of `train.py`: one process per measurement, with the package's files in the system's cache.",
    (
        *(
            named
            for case in CASES
            for named in (
                Named(f"startup_{case.name}_s", f"{case.says}: wall", "s"),
                Named(f"startup_{case.name}_cpu_s", f"{case.says}: CPU", "CPU-s"),
            )
        ),
        Named("startup_first_iteration_s", "of that, from the command to the start of the first iteration: wall", "s"),
    ),
    measured,
)
