"""CPU seconds of every wrong input, each in a process of its own: `python tests/launch/measure_refusals.py [TIMES]`.

It prints a Markdown table with medians, processes that a command starts included, and the imports of Python and Hydra.
"""

import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from launch.test_wrong_inputs import HERE, LIGHT, MORE, WITH_TORCH


def seconds(words: str, place: Path) -> float:
    """CPU seconds of one command, from the start of its process to its end."""
    (place / "cases.json").write_text(json.dumps([shlex.split(words)]))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "WINNOW_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, HERE / "refusals.py", "cases.json"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stdout)["code"] == 2, done.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| typed | CPU-s |\n|---|---:|")
    with TemporaryDirectory() as name:
        for words, _, _ in (*LIGHT, *WITH_TORCH, *MORE):
            typed = words.replace("|", "\\|")
            print(f"| `{typed}` | {median(seconds(words, Path(name)) for _ in range(times)):.2f} |", flush=True)


if __name__ == "__main__":
    main()
