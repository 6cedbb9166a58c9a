"""LoRA: the policy starts as the base model, the reference remains the base model, and only adapters are trained."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from learning import rows_of
from running import metrics, run
from winnow.engines.torch_engine import TorchEngine
from winnow.errors import ConfigError
from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, Pretrained, fingerprint
from winnow.models.lora import Lora
from winnow.models.policy import AdaptersOff, Critic, FrozenCopy, Policy, Reference, reference_of
from winnow.models.templates import Plain
from winnow.types import Prompt, Sampling

from .checkpoints import llama, qwen

TOKENS = torch.tensor([[3, 40, 50, 60, 70, 80, 9], [9, 100, 110, 120, 130, 140, 4]])
LORA = Lora(rank=4, alpha=8, target_modules="all-linear")


@pytest.fixture(params=["qwen tied", "qwen untied", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint"
    return llama(path) if request.param == "llama" else qwen(path, tied=request.param == "qwen tied")


@pytest.fixture
def base(folder: Path) -> LanguageModel:
    return Pretrained("base", str(folder), Plain()).load()


@pytest.fixture
def adapted(folder: Path) -> LanguageModel:
    return Pretrained("adapted", str(folder), Plain(), LORA).load()


def logprobs(of: Policy | Reference) -> Tensor:
    with torch.no_grad():
        return of(rows_of(TOKENS, 2)).logprobs


def moved(policy: Policy) -> None:
    """Two steps with a learning rate so large that no rounding hides their effect."""
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # A has no gradient while B is zero
        (-policy(rows_of(TOKENS, 2)).logprobs.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


def adapter_of(adapted: LanguageModel) -> PeftModel:
    assert adapted.adapter is not None
    return adapted.adapter


def test_the_policy_starts_as_the_base_bit_for_bit(base: LanguageModel, adapted: LanguageModel):
    assert torch.equal(logprobs(Policy(adapted.model, 1.0)), logprobs(Policy(base.model, 1.0)))
    with torch.no_grad():
        assert torch.equal(adapted.model(TOKENS).logits, base.model(TOKENS).logits)


def test_the_policy_moves_and_the_reference_does_not(base: LanguageModel, adapted: LanguageModel):
    policy = Policy(adapted.model, 1.0)
    reference = reference_of(policy, adapted.adapter)
    before = logprobs(Policy(base.model, 1.0))
    moved(policy)
    assert (logprobs(policy) - before).abs()[:, 2:].min() > 1e-3
    for mode in (True, False):
        policy.train(mode)
        assert torch.equal(logprobs(reference), before)
        assert policy.model.training == mode


@pytest.mark.parametrize("kind", ["copy", "adapters off"])
def test_a_reference_leaves_the_policy_as_it_was(kind: str, adapted: LanguageModel):
    policy = Policy(adapted.model, 1.0)
    reference = FrozenCopy(policy) if kind == "copy" else AdaptersOff(policy, adapter_of(adapted))
    moved(policy)
    trainable = {name for name, p in policy.named_parameters() if p.requires_grad}
    before = logprobs(policy)
    assert not reference(rows_of(TOKENS, 2)).logprobs.requires_grad
    with pytest.raises(IndexError):
        reference(rows_of(TOKENS + 10**6, 2))  # ids that no embedding has: it fails half-way
    assert torch.equal(logprobs(policy), before)
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == trainable
    assert policy(rows_of(TOKENS, 2)).logprobs.requires_grad


def test_a_frozen_copy_stays_too(base: LanguageModel):
    policy = Policy(base.model, 1.0)
    reference = reference_of(policy, None)
    before = logprobs(policy)
    moved(policy)
    assert torch.equal(logprobs(reference), before)
    assert not torch.equal(logprobs(policy), before)


def test_only_adapters_learn_and_only_they_change(adapted: LanguageModel):
    policy = Policy(adapted.model, 1.0)
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    moved(policy)
    changed = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in policy.named_parameters() if p.requires_grad}
    assert changed == {name for name in before if ".lora_" in name}
    # Seven linear layers in each of two blocks, an A and a B each.
    assert len(changed) == 2 * 7 * 2


def test_adapters_are_the_same_every_time_and_disturb_no_stream(folder: Path, adapted: LanguageModel):
    torch.manual_seed(1)
    again = Pretrained("again", str(folder), Plain(), LORA).load()
    drawn = torch.rand(1)
    assert fingerprint(again.model) == fingerprint(adapted.model)
    torch.manual_seed(1)
    Pretrained("base", str(folder), Plain()).load()
    assert torch.equal(torch.rand(1), drawn)


def test_the_engine_samples_from_the_adapted_model(base: LanguageModel, adapted: LanguageModel):
    def drawn(loaded: LanguageModel) -> list[tuple[int, ...]]:
        engine = TorchEngine(loaded.eos_ids, loaded.pad_id)
        engine.sync(loaded.model, 0)
        [group] = engine.generate([Prompt("p", (5, 6, 7), "", "")], [range(8)], Sampling(1.0, 6))
        return [one.token_ids for one in group]

    assert drawn(adapted) == drawn(base)
    moved(Policy(adapted.model, 1.0))
    assert drawn(adapted) != drawn(base)


def test_an_export_is_merged_and_has_the_adapter_beside_it(folder: Path, adapted: LanguageModel, tmp_path: Path):
    policy = Policy(adapted.model, 1.0)
    moved(policy)
    live = fingerprint(adapted.model)
    export_model(adapted, tmp_path / "export", "card")
    assert fingerprint(adapted.model) == live
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "export", dtype=torch.float32)
    assert not any("lora" in name for name in merged.state_dict())
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    beside = PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path / "export" / "adapter"))
    with torch.no_grad():
        said = adapted.model(TOKENS).logits
        assert (said - plain(TOKENS).logits).abs().max() > 0.1
        torch.testing.assert_close(merged(TOKENS).logits, said, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(beside(TOKENS).logits, said, rtol=0, atol=1e-5)
    moved(policy)  # training goes on


def test_a_critic_has_adapters_of_its_own_on_the_shared_base(adapted: LanguageModel):
    critic = Critic(adapted.model)
    mine = {p.data_ptr() for p in adapted.model.parameters() if p.requires_grad}
    frozen = {p.data_ptr() for p in adapted.model.parameters() if not p.requires_grad}
    theirs = {name: p for name, p in critic.named_parameters() if p.requires_grad}
    assert not mine & {p.data_ptr() for p in theirs.values()}
    assert {p.data_ptr() for p in critic.parameters() if not p.requires_grad} <= frozen
    assert len(theirs) == 2 * 7 * 2 + 2
    assert all(".lora_" in name or name.startswith("head.") for name in theirs)
    policy = Policy(adapted.model, 1.0)
    before = logprobs(policy)
    optimizer = torch.optim.AdamW(theirs.values(), lr=0.1)
    for _ in range(3):  # the head first, then B, then A
        (critic(rows_of(TOKENS, 1)) - 1).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert critic(rows_of(TOKENS, 1))[:, 1:].abs().min() > 1e-3
    assert torch.equal(logprobs(policy), before)


def test_bad_settings_are_refused_in_a_line(folder: Path):
    with pytest.raises(ConfigError, match=r"model\.lora\.rank=0: must be 1 or more; type model/lora=none"):
        Pretrained("x", str(folder), Plain(), Lora(0, 8, "all-linear")).load()
    with pytest.raises(
        ConfigError, match=r"model\.lora\.target_modules=\['nowhere'\].*type model\.lora\.target_modules=all-linear"
    ):
        Pretrained("x", str(folder), Plain(), Lora(4, 8, ["nowhere"])).load()


@pytest.mark.parametrize("layer", ["embed_tokens", "lm_head"])
def test_one_of_two_tied_layers_takes_no_adapter(layer: str, tmp_path: Path):
    lora = Lora(4, 8, ["q_proj", layer])
    with pytest.raises(
        ConfigError, match=r"embedding and output layer are tied; type model\.lora\.target_modules=all-linear"
    ):
        Pretrained("x", str(qwen(tmp_path / "tied")), Plain(), lora).load()
    Pretrained("x", str(qwen(tmp_path / "untied", tied=False)), Plain(), lora).load()


def test_adapters_train_through_the_whole_program(tmp_path: Path):
    """`reinforce` has a gradient whatever the verdicts are."""
    run(tmp_path, "algo=reinforce", "model/lora=adapter", "model.lora.rank=2", "iterations=2", "optim.lr=1e-3")
    rows = metrics(tmp_path)
    assert rows[-1]["train/updates"] == 2
    assert rows[-1]["train/kl_ref"] > 0
    assert (tmp_path / "export" / "adapter" / "adapter_model.safetensors").is_file()
