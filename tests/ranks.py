"""Whole runs in several processes, several runs one after the other in the same processes, started by torchrun."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).parent
Runs = Mapping[Path, Sequence[str]]
"""Words of each run by its directory."""


def trained(runs: Runs, ranks: int, kind: str = "running", environment: Mapping[str, str] | None = None) -> str:
    """Train `runs` with so many processes, all on the embedded model or, by `kind`, on `small_gpt2`; what was said."""
    words = json.dumps([[str(directory), *settings] for directory, settings in runs.items()])
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"] if ranks > 1 else []
    command = [sys.executable, *launcher, str(TESTS / "ranks.py"), kind, words]
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    done = subprocess.run(command, env=everything, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return done.stdout


def main(kind: str, words: str) -> None:
    sys.path[:0] = [str(TESTS), str(TESTS / "rewards")]
    import torch

    from running import run
    from small_gpt2 import train_on_sums

    torch.set_num_threads(1)
    train = {"running": run, "small_gpt2": train_on_sums}[kind]
    for directory, *settings in json.loads(words):
        train(Path(directory), *settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
