"""One process or two: the same run."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from running import metrics
from winnow.run_logs.run_files import SampleRecord, read_samples

FUNCTIONS = (
    "reward=function",
    "plugins=[their_rewards]",
    "reward.functions=[winnow.rewards:accuracy,their_rewards:graded,their_rewards:reward_schedule,their_rewards:odd]",
    "reward.weights=[1,0.5,0.01,0.1]",
    "reward.workers=1",
)
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/rewards"]
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
    (directory / "said.txt").write_text(done.stdout)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "reward"), [("grpo", ()), ("ppo", FUNCTIONS), ("dpo", FUNCTIONS)])
def test_two_ranks_are_one(tmp_path: Path, algo: str, reward: Sequence[str]):
    """Weights to rounding, a hundredth of what four updates of 1e-3 move them."""
    settings = (f"algo={algo}", *reward, "iterations=2", "hardware.token_budget=300", "optim.lr=1e-3")
    one = trained(tmp_path / "one", 1, *settings)
    two = trained(tmp_path / "two", 2, *settings, "hardware.devices=2", "hardware.strategy=ddp")
    first, second = (load_file(run / "export" / "model.safetensors") for run in (one, two))
    assert max(float((first[k] - second[k]).abs().max()) for k in first) < 4e-5
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert comparable(a) == pytest.approx(comparable(b), rel=1e-2, abs=1e-4)
    # While the weights are those of the start, the samples are the same on both, and so is all that functions return.
    first_samples, second_samples = (read_samples(run / "samples" / "iteration_000001.jsonl") for run in (one, two))
    assert [reward_of(sample) for sample in first_samples] == [reward_of(sample) for sample in second_samples]
    if reward:
        lost = [sample.lost for sample in second_samples if sample.lost is not None]
        assert {*lost} == {"odd: ValueError: no odd digit"}
        assert f"{len(lost)} rows without a reward left out" in (two / "said.txt").read_text()


def reward_of(sample: SampleRecord) -> tuple[object, ...]:
    """All that is known of a sample's reward, in which a lost one equals itself."""
    return (sample.prompt_key, sample.response, sample.rewards, sample.logged, sample.lost, repr(sample.reward))


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
