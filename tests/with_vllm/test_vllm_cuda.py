"""vLLM on GPUs: beside the trainer, as a server, and weights by NCCL. Skipped where there are too few of them."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from test_vllm_training import TASK, model, trained

GPUS = torch.cuda.device_count()
pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: type make test-vllm"),
    pytest.mark.skipif(GPUS == 0, reason="there is no GPU here"),
]
two_gpus = pytest.mark.skipif(GPUS < 2, reason=f"it takes two GPUs, and here are {GPUS}")
SETTINGS = (
    "hardware=gpu",
    "hardware.precision=bf16-mixed",
    "engine.enforce_eager=true",
    "rollout.max_mismatch_kl=0.01",
)


def agrees(rows: list[dict[str, float]]) -> bool:
    return [0 <= row["rollout/mismatch_kl"] < 1e-2 and row["train/grad_norm"] > 0 for row in rows] == [True] * 3


def test_three_iterations_in_the_trainers_process_which_sleeps_between_them(warm: Path, tmp_path: Path):
    memory = "engine.gpu_memory_utilization=0.2"
    assert agrees(trained(tmp_path / "run", "engine=vllm", memory, *SETTINGS, *model(warm), *TASK))


@two_gpus
def test_two_ranks_that_each_have_the_weights(warm: Path, tmp_path: Path):
    words = ("engine=vllm", "hardware.devices=2", "engine.gpu_memory_utilization=0.2")
    assert agrees(trained(tmp_path / "run", *words, *SETTINGS, *model(warm), *TASK))


def test_a_server_on_the_trainers_gpu_gets_files(warm: Path, tmp_path: Path):
    words = ("engine=vllm_server", "engine.devices=[0]", "engine.memory=0.2")
    assert agrees(trained(tmp_path / "run", *words, *SETTINGS, *model(warm), *TASK))


@two_gpus
@pytest.mark.parametrize("transfer", ["nccl", "files"])
def test_a_server_on_the_next_gpu(warm: Path, tmp_path: Path, transfer: str):
    words = ("engine=vllm_server", f"engine.transfer={transfer}")
    assert agrees(trained(tmp_path / "run", *words, *SETTINGS, *model(warm), *TASK))
