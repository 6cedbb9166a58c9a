"""One process or two: the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from running import metrics

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from running import run
run(Path(sys.argv[1]), *sys.argv[2:])
"""


def trained(directory: Path, ranks: int, *overrides: str) -> Path:
    script = directory.with_suffix(".py")
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"] if ranks > 1 else []
    command = [sys.executable, *launcher, script, directory, *overrides]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["grpo", "ppo", "dpo"])
def test_two_ranks_are_one(tmp_path: Path, algo: str):
    """Weights to rounding, a hundredth of what four updates of 1e-3 move them."""
    settings = (f"algo={algo}", "iterations=2", "hardware.token_budget=300", "optim.lr=1e-3")
    one = trained(tmp_path / "one", 1, *settings)
    two = trained(tmp_path / "two", 2, *settings, "hardware.devices=2", "hardware.strategy=ddp")
    first, second = (load_file(run / "export" / "model.safetensors") for run in (one, two))
    assert max(float((first[k] - second[k]).abs().max()) for k in first) < 4e-5
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert comparable(a) == pytest.approx(comparable(b), rel=1e-2, abs=1e-4)


@pytest.mark.slow
def test_two_ranks_share_an_adapter(tmp_path: Path):
    settings = ("algo=grpo", "iterations=2", "hardware.token_budget=300", "optim.lr=1e-3", "model/lora=adapter")
    one = trained(tmp_path / "one", 1, *settings)
    two = trained(tmp_path / "two", 2, *settings, "hardware.devices=2", "hardware.strategy=ddp")
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert comparable(a) == pytest.approx(comparable(b), rel=2e-2, abs=1e-4)


def comparable(row: dict[str, float]) -> dict[str, float]:
    """Without the share of positive margins: before the first update every margin is zero but for rounding."""
    return {key: value for key, value in row.items() if key != "train/dpo/acc"}
