"""The same loop on a GPU, where there is one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engines.models import tiny
from running import composed, metrics, run
from winnow.assemble.evaluation import evaluate
from winnow.engines.torch_engine import TorchEngine
from winnow.models import backbone
from winnow.models.attention import EachTokenOnce, Ragged, is_packed, packed_attention
from winnow.models.backbone import pack_where_exact
from winnow.models.policy import Policy
from winnow.packed import Packed, pack
from winnow.rng import uniforms
from winnow.types import Prompt, Row, Sampling

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
ON_GPU = ("hardware=gpu", "hardware.precision=32-true", "iterations=2")


@pytest.mark.parametrize("algo", ["grpo", "ppo", "dpo"])
def test_a_gpu_samples_what_a_cpu_samples(tmp_path: Path, algo: str):
    """Uniforms are drawn on the CPU: in float32 the first iteration's rollouts agree up to draws within rounding."""
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
        accuracies.append(evaluate(cfg, tmp_path / hardware))
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


def ragged_rows() -> Packed:
    """Of two prompts with 5 and 9 tokens, and responses of 1 to 40."""
    found = []
    for i, response in enumerate((40, 33, 31, 30, 12, 11, 2, 1)):
        prompt = 5 + 4 * (i % 2)
        noise = uniforms(i % 2, prompt).tolist() + uniforms(10 + i, response).tolist()
        found.append(Row(tuple(int(19 * x) for x in noise), prompt))
    return pack(found).to("cuda")


def learnt(policy: Policy, rows: Packed, bfloat16: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and the gradient of their sum."""
    policy.zero_grad()
    with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
        logprobs = policy(rows).logprobs
    logprobs.sum().backward()
    return logprobs.detach(), torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize("style", ["qwen2", "llama"])
def test_attention_without_padding_says_what_padded_blocks_say(style: str, monkeypatch: pytest.MonkeyPatch):
    """To bfloat16's rounding: both are as far from float32, whose own packed and padded rows agree to 1e-4."""
    wide = {"hidden_size": 128, "initializer_range": 0.05}  # heads of 32
    model = tiny(style, **wide).eval()
    pack_where_exact(model)
    assert is_packed(model)
    policy, padded = Policy(model.cuda(), 1.0), Policy(tiny(style, **wide).eval().cuda(), 1.0)
    rows = ragged_rows()
    exact, slope = learnt(policy, rows, bfloat16=False)
    for one, other in zip((exact, slope), learnt(padded, rows, bfloat16=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    used: list[str] = []

    def noted(kind: type[EachTokenOnce] | type[Ragged]) -> None:
        def attend(rows: Packed) -> EachTokenOnce | Ragged:
            used.append(kind.__name__)
            return kind(rows)

        monkeypatch.setattr(backbone, "packed_attention", attend)

    kinds = [type(packed_attention(rows)).__name__]
    with torch.autocast("cuda", torch.bfloat16):
        kinds.append(type(packed_attention(rows)).__name__)
    assert kinds == ["EachTokenOnce", "Ragged"]
    found = []
    for kind in (EachTokenOnce, Ragged):
        noted(kind)
        found.append(learnt(policy, rows, bfloat16=True))
    assert used == ["EachTokenOnce", "Ragged"]
    for logprobs, gradient in found:
        assert (logprobs - exact).abs().max() < 0.1
        assert (gradient - slope).norm() < 0.03 * slope.norm()
    assert (found[0][0] - found[1][0]).abs().mean() < 0.01
    assert (found[0][1] - found[1][1]).norm() < 0.03 * slope.norm()


def test_bf16_autocast_keeps_float32_weights(tmp_path: Path):
    run(tmp_path, "algo=grpo", "iterations=2", "hardware=gpu")
    assert all(torch.isfinite(torch.tensor(row["train/entropy"])) for row in metrics(tmp_path)[1:])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_graphs_draw_what_steps_draw(bfloat16: bool):
    """Through compaction and joining; in bfloat16 only log-probabilities near each other are to be had."""
    model = tiny("llama").eval().cuda()
    pack_where_exact(model)
    prompts = [Prompt(f"p{n}", tuple(range(1, n + 3)), "", "") for n in range(6)]
    seeds = [[100 * p + g for g in range(5)] for p in range(6)]
    found = []
    for graphs in (False, True):
        engine = TorchEngine((0,), max_rows=11, graphs=graphs)
        engine.sync(model, 1)
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
            found.append(engine.generate(prompts, seeds, Sampling(1.0, 24)))
    firsts = [[one.logprobs[0] for group in groups for one in group] for groups in found]
    torch.testing.assert_close(torch.stack(firsts[0]), torch.stack(firsts[1]), rtol=0, atol=0.1 if bfloat16 else 1e-4)
    if not bfloat16:
        assert [[one.token_ids for one in group] for group in found[0]] == [
            [one.token_ids for one in group] for group in found[1]
        ]
