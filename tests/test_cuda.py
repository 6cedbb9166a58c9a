"""The same loop on a GPU, where there is one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from running import composed, metrics, run
from winnow.build import evaluation

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
ON_GPU = ("hardware=gpu", "hardware.precision=32-true", "iterations=2")


@pytest.mark.parametrize("algo", ["grpo", "ppo", "dpo"])
def test_a_gpu_samples_what_a_cpu_samples(tmp_path: Path, algo: str):
    """Named uniforms are drawn on the CPU: in float32 the first iteration's rollouts agree up to draws within rounding."""
    run(tmp_path / "cpu", f"algo={algo}", "iterations=2")
    run(tmp_path / "gpu", f"algo={algo}", *ON_GPU)
    first, second = metrics(tmp_path / "cpu")[1], metrics(tmp_path / "gpu")[1]
    for key in ("rollout/acc", "rollout/length/mean", "train/entropy"):
        assert first[key] == pytest.approx(second[key], rel=0.1, abs=0.05)
    assert second["rollout/logp_diff/max"] < 1e-4


def test_adapters_and_recomputation_train_in_bfloat16_on_float32_weights(tmp_path: Path):
    words = ("model/lora=adapter", "hardware.gradient_checkpointing=true", "optim.lr=1e-3")
    run(tmp_path, "algo=grpo", "iterations=2", "hardware=gpu", "hardware.precision=auto", *words)
    rows = metrics(tmp_path)
    assert rows[1]["train/kl_ref"] == pytest.approx(0, abs=1e-4)
    assert rows[2]["train/kl_ref"] > 0
    exported = load_file(tmp_path / "export" / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.float32}


def test_an_evaluation_draws_what_the_cpu_draws(tmp_path: Path):
    """Under named uniforms in float32: the same answers but for draws within rounding."""
    accuracies = []
    for hardware in ("cpu", "gpu"):
        (tmp_path / hardware).mkdir()
        cfg = composed("limit=32", f"hardware={hardware}", "hardware.precision=32-true", program="evaluate")
        accuracies.append(evaluation.evaluate(cfg, tmp_path / hardware))
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


def test_bf16_autocast_keeps_float32_weights(tmp_path: Path):
    run(tmp_path, "algo=grpo", "iterations=2", "hardware=gpu")
    assert all(torch.isfinite(torch.tensor(row["train/entropy"])) for row in metrics(tmp_path)[1:])
