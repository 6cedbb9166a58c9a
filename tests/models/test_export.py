"""Exports: complete Hugging Face folders for every base that can be loaded, whatever its generation config says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from winnow.models.export import export_model
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.lora import Lora
from winnow.models.templates import Plain

from .checkpoints import llama, qwen

TOKENS = torch.tensor([[3, 40, 50, 60, 70, 80, 9]])
LOADABLE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "greedy with a temperature": ({"do_sample": False, "temperature": 0.9, "top_p": 0.6}, {"temperature", "top_p"}),
    "top_k alone": ({"top_k": 20}, {"top_k"}),
    "temperature 0": ({"do_sample": True, "temperature": 0.0}, set()),
    "temperature 0, greedy": ({"do_sample": False, "temperature": 0.0}, {"temperature"}),
    "padding -1": ({"pad_token_id": -1}, {"pad_token_id"}),
    "early stopping without beams": ({"early_stopping": True}, {"early_stopping"}),
    "a length penalty without beams": ({"length_penalty": 0.8}, {"length_penalty"}),
    "min_p, typical_p and cutoffs": (
        {"min_p": 0.1, "typical_p": 0.9, "epsilon_cutoff": 3e-4, "eta_cutoff": 3e-4},
        {"min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"},
    ),
    "scores without a dictionary": (
        {"output_scores": True, "output_attentions": True},
        {"output_scores", "output_attentions"},
    ),
    "a cache that is not used": ({"use_cache": False, "cache_implementation": "static"}, {"cache_implementation"}),
    "ends that are no tokens": ({"eos_token_id": [425, 10**6, -1]}, {"eos_token_id"}),
    "a word as end": ({"eos_token_id": "</s>"}, {"eos_token_id"}),
    "sampling": ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, set()),
    "beams": ({"num_beams": 4, "early_stopping": True, "length_penalty": 0.8, "num_return_sequences": 2}, set()),
    "many ends": ({"eos_token_id": [425, 426, 427]}, set()),
}
"""Generation configs that transformers loads, each with the settings that it then refuses to save, or could not use."""


def with_generation(folder: Path, settings: dict[str, Any] | None) -> Path:
    """A base whose generation config is exactly `settings`, or which has none."""
    qwen(folder)
    file = folder / "generation_config.json"
    if settings is None:
        file.unlink()
    else:
        file.write_text(json.dumps({"eos_token_id": 425} | settings))
    return folder


def assert_equal_export(loaded: LanguageModel, out: Path) -> None:
    again = AutoModelForCausalLM.from_pretrained(out)
    with torch.no_grad():
        torch.testing.assert_close(again(TOKENS).logits, loaded.model(TOKENS).logits, rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == loaded.tokenizer.get_vocab()
    GenerationConfig.from_pretrained(out).validate(strict=True)


@pytest.mark.parametrize("kind", LOADABLE)
def test_a_generation_config_that_can_be_loaded_is_exported_as_far_as_it_can_be_saved(kind: str, tmp_path: Path):
    settings, refused = LOADABLE[kind]
    loaded = Pretrained("x", str(with_generation(tmp_path / "base", settings)), Plain()).load()
    assert set(loaded.left_out) == refused
    export_model(loaded, tmp_path / "export", "card")
    assert_equal_export(loaded, tmp_path / "export")
    saved = GenerationConfig.from_pretrained(tmp_path / "export").to_dict()
    assert {name: saved[name] for name in settings if name not in refused} == {
        name: value for name, value in settings.items() if name not in refused
    }
    assert not refused & {name for name, value in saved.items() if value == settings.get(name, saved)}


def test_a_base_without_a_generation_config_can_be_exported(tmp_path: Path):
    loaded = Pretrained("x", str(with_generation(tmp_path / "base", None)), Plain()).load()
    assert loaded.left_out == ()
    export_model(loaded, tmp_path / "export", "card")
    assert_equal_export(loaded, tmp_path / "export")


def test_settings_of_generation_in_an_old_config_are_no_obstacle(tmp_path: Path):
    """Before generation_config.json, config.json held them."""
    base = with_generation(tmp_path / "base", None)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"temperature": 0.9, "do_sample": False, "top_k": 5}))
    loaded = Pretrained("x", str(base), Plain()).load()
    export_model(loaded, tmp_path / "export", "card")
    assert_equal_export(loaded, tmp_path / "export")


@pytest.mark.parametrize("tied", [True, False])
def test_a_merged_export_of_adapters_and_the_adapters_give_the_same_probabilities(tied: bool, tmp_path: Path):
    base = qwen(tmp_path / "base", tied=tied)
    file = base / "generation_config.json"
    file.write_text(json.dumps({"do_sample": False, "temperature": 0.9, "eos_token_id": 425}))
    loaded = Pretrained("x", str(base), Plain(), Lora(4, 8, "all-linear")).load()
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    export_model(loaded, tmp_path / "export", "card")
    assert_equal_export(loaded, tmp_path / "export")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        assert (plain(TOKENS).logits - loaded.model(TOKENS).logits).abs().max() > 0.1
        beside = PeftModel.from_pretrained(plain, str(tmp_path / "export" / "adapter"))
        torch.testing.assert_close(beside(input_ids=TOKENS).logits, loaded.model(TOKENS).logits, rtol=0, atol=1e-5)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) == tied


def test_an_export_of_an_export_is_the_same(tmp_path: Path):
    first = Pretrained("x", str(llama(tmp_path / "base")), Plain()).load()
    export_model(first, tmp_path / "first", "card")
    export_model(Pretrained("x", str(tmp_path / "first"), Plain()).load(), tmp_path / "second", "card")
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file.name
