"""Whole runs with hardware.precision=64-true: sampling, scoring and updates in float64."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from running import composed, metrics, run, weights
from small_gpt2 import on_sums, train_on_sums
from winnow.assemble import evaluation
from winnow.config import checks
from winnow.errors import ConfigError

FLOAT64 = "hardware.precision=64-true"


@pytest.mark.parametrize("more", [("algo=grpo",), ("algo=ppo", "algo/kl=k3", "algo.kl.place=reward")])
def test_sampler_and_trainer_agree_to_the_rounding_of_float64(tmp_path: Path, more: tuple[str, ...]):
    train_on_sums(tmp_path / "run", "iterations=2", *more)
    first = metrics(tmp_path / "run")[1]
    assert 0 < first["rollout/mismatch_kl"] < 1e-28
    assert first["rollout/logp_diff/max"] < 1e-13
    assert first["train/kl_ref"] < 1e-28


@pytest.mark.parametrize("algo", ["grpo", "ppo"])
def test_a_resumed_run_is_equal_and_checkpoints_are_float64(tmp_path: Path, algo: str):
    words = (f"algo={algo}",)
    train_on_sums(tmp_path / "whole", *words, "iterations=4")
    train_on_sums(tmp_path / "parts", *words, "iterations=2")
    train_on_sums(tmp_path / "parts", *words, "iterations=4", f"resume={tmp_path / 'parts'}")
    assert metrics(tmp_path / "parts")[3:] == metrics(tmp_path / "whole")[3:]
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    state = [
        torch.load(tmp_path / name / "checkpoints" / "iteration_000004" / "state.ckpt", weights_only=True)
        for name in ("parts", "whole")
    ]
    for name, tensor in state[0]["state_dict"].items():
        assert tensor.dtype == torch.float64, name
        assert torch.equal(tensor, state[1]["state_dict"][name]), name
    moments = [m for of in state[0]["optimizer_states"][0]["state"].values() for m in (of["exp_avg"], of["exp_avg_sq"])]
    assert {m.dtype for m in moments} == {torch.float64}


@pytest.mark.parametrize("lora", ["none", "adapter"])
def test_the_export_is_float32_and_float32_runs_can_begin_with_it(tmp_path: Path, lora: str):
    train_on_sums(tmp_path / "run", "algo=grpo", "iterations=1", f"model/lora={lora}")
    for file in (tmp_path / "run" / "export").rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names = opened.keys()
            assert {opened.get_tensor(name).dtype for name in names} == {torch.float32}, file
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "export")
    assert model.dtype == torch.float32


def test_an_evaluation_in_float64(tmp_path: Path):
    cfg = composed(*on_sums(tmp_path), "eval.samples=4", program="evaluate")
    checks.check_environment(cfg)
    (tmp_path / "evaluation").mkdir()
    assert 0 <= evaluation.evaluate(cfg, tmp_path / "evaluation") <= 1
    assert torch.get_default_dtype() == torch.float32


def test_the_embedded_model_is_told_where_it_leaves_float64(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path / "tiny", "iterations=1", FLOAT64)
    assert "Qwen2RMSNorm and Qwen2RotaryEmbedding" in capsys.readouterr().out
    train_on_sums(tmp_path / "gpt2", "iterations=1")
    assert "64-true" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [("engine=vllm",), ("algo/correction=truncated",)])
def test_what_cannot_be_in_float64_or_has_no_effect_there_is_refused(words: tuple[str, ...]):
    with pytest.raises(ConfigError, match="64-true"):
        checks.check_config(composed(FLOAT64, *words))
