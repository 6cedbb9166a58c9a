"""A long run watched from outside: whether its memory, descriptors, threads, files or times grow.

`python -m benchmarks.soak --iterations 1000 [OVERRIDE …]` trains the demo that long and prints one line a quantity.
Linux only: the figures come from /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.process import descendants

PAGE = os.sysconf("SC_PAGE_SIZE")
WINDOW = 50
"""Iterations at either end whose median times are compared."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the kernel says of a process after an iteration."""

    iteration: int
    resident: float  # MB of the process itself
    descriptors: int
    threads: int
    children: int
    cpu: float  # user and system seconds since it began


def read(pid: int, iteration: int) -> Reading:
    process = Path(f"/proc/{pid}")
    resident = int((process / "statm").read_text().split()[1]) * PAGE / 1e6
    descriptors, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime of proc(5)
    return Reading(iteration, resident, descriptors, threads, len(list(descendants(pid))), cpu)


def watch(run: Path, overrides: list[str], iterations: int, scratch: Path) -> tuple[int, list[Reading]]:
    """Train, with `scratch` as the directory of temporary files; the exit code and one reading an iteration."""
    words = [sys.executable, "train.py", f"iterations={iterations}", f"hydra.run.dir={run}", "logger=none", *overrides]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(scratch)})
    readings: list[Reading] = []
    while process.poll() is None:
        time.sleep(0.2)
        done = _rows(run)
        if done and (not readings or done > readings[-1].iteration):
            try:
                readings.append(read(process.pid, done))
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                break
    return process.wait(), readings


def _rows(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") - 1 if file.exists() else 0


def slope(readings: list[Reading]) -> float:
    """Growth of resident memory in MB per 100 iterations, by least squares over the second half of the run."""
    late = readings[len(readings) // 2 :]
    return 100 * float(np.polyfit([r.iteration for r in late], [r.resident for r in late], 1)[0])


def cost(rows: list[dict[str, float]]) -> tuple[float, float]:
    """Median seconds of an iteration, and of sampling and updating divided by the sampled tokens.

    An iteration whose prompts all tie updates nothing.
    """
    seconds = [row["perf/iteration_s"] for row in rows[1:]]
    tokens = [b["train/sampled_tokens_total"] - a["train/sampled_tokens_total"] for a, b in pairwise(rows)]
    work = [row["time/generate"] + row.get("time/update", 0.0) for row in rows[1:]]
    return median(seconds), median(w / t for w, t in zip(work, tokens, strict=True))


def cpu_per_token(rows: list[dict[str, float]], readings: list[Reading]) -> float:
    """CPU seconds by sampled tokens from the first of `readings` to the last."""
    tokens = {row["iteration"]: row.get("train/sampled_tokens_total", 0.0) for row in rows}
    first, last = readings[0], readings[-1]
    return (last.cpu - first.cpu) / (tokens[last.iteration] - tokens[first.iteration])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="winnow-soak-"))
    scratch = top / "tmp"
    scratch.mkdir()
    code, readings = watch(top / "run", args.overrides, args.iterations, scratch)
    rows = [json.loads(line) for line in (top / "run" / "metrics.jsonl").read_text().splitlines()]
    early, late = cost(rows[10 : 11 + WINDOW]), cost(rows[-WINDOW - 1 :])
    first, last = readings[min(10, len(readings) - 1)], readings[-1]
    print(f"exit {code}, {len(rows) - 1} iterations, run in {top / 'run'}")
    print(f"resident memory: {first.resident:.0f} MB early, {last.resident:.0f} MB late, {slope(readings):+.2f} MB/100")
    for name in ("descriptors", "threads", "children"):
        values = [getattr(r, name) for r in readings[10:]]
        print(f"{name}: {values[0]} early, {values[-1]} late, at most {max(values)}")
    print(
        f"an iteration: {early[0]:.3f} s early, {late[0]:.3f} s late; a sampled token: {late[1] / early[1]:.2f} × early"
    )
    ratio = cpu_per_token(rows, readings[-WINDOW - 1 :]) / cpu_per_token(rows, readings[10 : 11 + WINDOW])
    print(f"CPU seconds of a sampled token: {ratio:.2f} × early")
    print(f"left in TMPDIR: {[path.name for path in scratch.iterdir()]}")
    print(f"files of the run: {sum(path.is_file() for path in (top / 'run').rglob('*'))}")
    return code


if __name__ == "__main__":
    sys.exit(main())
