"""Gradient checkpointing, float32 master weights and attention implementations: none changes the objective."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from learning import rows_of
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import ConfigError
from winnow.models import attention
from winnow.models.backbone import enable_gradient_checkpointing, require_masters
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.lora import Lora
from winnow.models.policy import Critic, Policy
from winnow.models.templates import Plain
from winnow.types import Prompt, Sampling

from .checkpoints import llama, qwen

TOKENS = torch.tensor([[3, 40, 50, 60, 70, 80, 9], [9, 100, 110, 120, 130, 140, 4]])


@pytest.fixture(params=["full", "lora", "full padded", "lora padded"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> LanguageModel:
    lora = Lora(4, 8, "all-linear") if "lora" in request.param else None
    padded = "padded" in request.param
    found = Pretrained("x", str(llama(tmp_path / "checkpoint")), Plain(), lora).load("sdpa" if padded else None)
    assert attention.is_packed(found.model) == (not padded)
    return found


def gradients(policy: Policy) -> dict[str, Tensor]:
    policy.zero_grad()
    policy(rows_of(TOKENS, 2)).logprobs.sum().backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def calls_of_the_first_block(loaded: LanguageModel) -> list[int]:
    calls: list[int] = []
    loaded.model.base_model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_recomputing_activations_changes_no_gradient(loaded: LanguageModel):
    policy = Policy(loaded.model, 1.0)
    calls = calls_of_the_first_block(loaded)
    kept = gradients(policy)
    assert len(calls) == 1
    enable_gradient_checkpointing(loaded.model)
    calls.clear()
    recomputed = gradients(policy)
    assert len(calls) == 2  # forward, and once more in backward
    assert recomputed.keys() == kept.keys()
    assert all(torch.equal(recomputed[name], kept[name]) for name in kept)


def test_sampling_keeps_its_cache_while_activations_are_recomputed(loaded: LanguageModel):
    def drawn() -> list[tuple[int, ...]]:
        engine = TorchEngine(loaded.eos_ids, loaded.pad_id)
        engine.sync(loaded.model, 0)
        [group] = engine.generate([Prompt("p", (5, 6, 7), "", "")], [range(4)], Sampling(1.0, 6))
        return [one.token_ids for one in group]

    before = drawn()
    enable_gradient_checkpointing(loaded.model)
    assert drawn() == before
    assert loaded.model.training


def test_a_critic_recomputes_as_its_policy_does(loaded: LanguageModel):
    critic = Critic(loaded.model)
    critic.head.weight.data.fill_(0.1)
    critic(rows_of(TOKENS, 1)).sum().backward()
    kept = {name: p.grad.clone() for name, p in critic.named_parameters() if p.grad is not None}
    critic.zero_grad()
    enable_gradient_checkpointing(critic.backbone)
    critic(rows_of(TOKENS, 1)).sum().backward()
    assert kept
    assert all(torch.equal(p.grad, kept[name]) for name, p in critic.named_parameters() if p.grad is not None)


def test_trained_weights_are_float32(loaded: LanguageModel):
    require_masters(loaded.model, torch.float32)
    trained = [p for p in loaded.model.parameters() if p.requires_grad]
    name = next(name for name, p in loaded.model.named_parameters() if p is trained[-1])
    trained[-1].data = trained[-1].data.bfloat16()
    with pytest.raises(RuntimeError, match=rf"{name} is trained in bfloat16, not in float32"):
        require_masters(loaded.model, torch.float32)
    trained[-1].requires_grad_(False)
    require_masters(loaded.model, torch.float32)


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("cuda", [True, False])
def test_attention_by_hardware(cuda: bool, bfloat16: bool, flash: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: object() if flash and name == "flash_attn" else None)
    able = cuda and bfloat16 and flash
    assert attention.implementation("auto", cuda, bfloat16) is None
    for name in ("eager", "sdpa", "flex_attention"):
        assert attention.implementation(name, cuda, bfloat16) == name
    if able:
        assert attention.implementation("flash_attention_2", cuda, bfloat16) == "flash_attention_2"
    else:
        with pytest.raises(
            ConfigError, match=r"flash_attention_2: (it needs|the package).*type hardware\.attention=auto"
        ):
            attention.implementation("flash_attention_2", cuda, bfloat16)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_model_is_loaded_with_the_attention_asked_for(name: str, tmp_path: Path):
    source = Pretrained("x", str(qwen(tmp_path / "checkpoint")), Plain())
    model = source.load(attention=name).model
    assert model.config._attn_implementation == name
    assert attention.is_packed(source.load().model)
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS).logits, source.load().model(TOKENS).logits, rtol=0, atol=1e-5)
