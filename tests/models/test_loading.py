"""The real loading path, on a checkpoint made here: GQA, tied embeddings, a byte-level BPE, a chat template."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from running import metrics, run
from winnow.data.templates import Chat
from winnow.errors import ConfigError
from winnow.models.language_model import Pretrained

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights stored as bfloat16, as hubs do, and a generation config that asks for top-k sampling."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0], pad_token=SPECIAL[0])
    fast.add_special_tokens({"extra_special_tokens": SPECIAL[1:]})
    fast.chat_template = CHAT
    config = Qwen2Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.convert_tokens_to_ids(SPECIAL[0]),
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    ends = [fast.convert_tokens_to_ids(token) for token in (SPECIAL[0], SPECIAL[2])]
    model.generation_config.update(eos_token_id=ends, do_sample=True, top_k=20, top_p=0.8, temperature=0.7)
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def test_weights_are_float32_and_every_end_token_counts(checkpoint: Path):
    loaded = Pretrained("qwen", str(checkpoint), Chat(None, "Box it.")).load()
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert [loaded.tokenizer.convert_ids_to_tokens(i) for i in loaded.eos_ids] == ["<|endoftext|>", "<|im_end|>"]


def test_the_prompt_is_the_chat_template(checkpoint: Path):
    source = Pretrained("qwen", str(checkpoint), Chat("Think.", "Box it."))
    loaded = source.load()
    text = source.template.render("1+1", loaded.tokenizer)
    assert text == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n1+1 Box it.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.encode(text)[0]) == "<|im_start|>"


def test_a_folder_trains_and_exports_through_the_real_path(checkpoint: Path, tmp_path: Path):
    """`reinforce` has a gradient even where every answer is wrong, as a random model's are."""
    words = ("algo=reinforce", "model=qwen", f"model.path={checkpoint}", "dataset=arithmetic", "iterations=2")
    run(tmp_path / "run", *words, "rollout.max_tokens=12", "optim.lr=1e-3")
    assert metrics(tmp_path / "run")[-1]["train/updates"] == 2
    sample = json.loads((tmp_path / "run" / "samples" / "iteration_000001.jsonl").read_text().splitlines()[0])
    assert sample["prompt"].startswith("<|im_start|>system\nPlease reason step by step")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "export")
    original = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    assert any((a != b).any() for a, b in zip(exported.parameters(), original.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "export").chat_template == CHAT


def test_what_could_not_be_had_is_named(tmp_path: Path):
    template = Chat(None, "")
    with pytest.raises(ConfigError, match=r"model Qwen/Nowhere could not be had.*model\.path=DIR"):
        Pretrained("qwen", "Qwen/Nowhere", template).load()
    with pytest.raises(ConfigError, match=r"model\.path=\./nowhere: no such folder"):
        Pretrained("qwen", "./nowhere", template).load()
    with pytest.raises(ConfigError, match=r"needs config\.json"):
        Pretrained("qwen", str(tmp_path), template).load()
