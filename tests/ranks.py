"""Whole runs in several processes, started by torchrun."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/rewards"]
import torch
torch.set_num_threads(1)
from running import run
run(Path(sys.argv[1]), *sys.argv[2:])
"""


def trained(directory: Path, ranks: int, *overrides: str, environment: Mapping[str, str] | None = None) -> Path:
    """The directory of a run that `ranks` processes have trained; what they said is in `said.txt`."""
    script = directory.with_suffix(".py")
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"] if ranks > 1 else []
    command = [sys.executable, *launcher, script, directory, *overrides]
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    done = subprocess.run(command, env=everything, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (directory / "said.txt").write_text(done.stdout)
    return directory
