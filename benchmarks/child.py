"""A run in a process of its own: `python -m benchmarks.child SPEC OUT`, which `timed` starts."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.iteration import Cost, Drawn, Iteration, measure
from benchmarks.observe import OBSERVERS, Observed
from benchmarks.workload import Work


class Timed(NamedTuple):
    iteration: Iteration
    observed: Observed


def timed(work: Work, words: Sequence[str], warm_up: int, observer: str = "nothing") -> list[Timed]:
    """The iterations of `work` under `words` but for the first `warm_up`: from a cold start, on one thread.

    `observer` names one of `OBSERVERS`.
    """
    with TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "iterations.json"
        spec = {
            "words": [*work.words(folder), *words],
            "directory": str(folder / "run"),
            "warm_up": warm_up,
            "observer": observer,
        }
        said = run([sys.executable, "-m", "benchmarks.child", json.dumps(spec), str(out)])
        if not out.is_file():
            raise RuntimeError(f"a measured run failed: {' '.join(spec['words'])}\n{said}")
        return [_read(row) for row in json.loads(out.read_text())]


def run(command: Sequence[str]) -> str:
    """What `command` says, on one thread and without a hub; whether it failed is the caller's to see."""
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _read(row: dict) -> Timed:
    costs = [Cost(**row["iteration"][name]) for name in ("step", "rollout", "update")]
    rows = [Drawn(**drawn) for drawn in row["iteration"]["rows"]]
    return Timed(Iteration(*costs, rows=rows), row["observed"])


def main(spec: str, out: str) -> None:
    what = json.loads(spec)
    watch = OBSERVERS[what["observer"]]()
    iterations = measure(
        what["words"], Path(what["directory"]), what["warm_up"], after=watch.after, before_update=watch.before_update
    )
    observed = watch.found()[what["warm_up"] :] or [{} for _ in iterations]
    rows = [{"iteration": asdict(i), "observed": o} for i, o in zip(iterations, observed, strict=True)]
    Path(out).write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
