"""Model folders that are hostile, damaged or of another kind: one line each, and no code of theirs is ever run."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from winnow.errors import ConfigError
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.memory import shape_of
from winnow.models.templates import Plain

from .checkpoints import qwen

Change = Callable[[Path], object]
Weights = dict[str, Tensor]
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen(tmp_path_factory.mktemp("whole") / "checkpoint")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


def load(folder: Path) -> LanguageModel:
    """As a run does: sizes first, then the weights."""
    source = Pretrained("x", str(folder), Plain())
    shape_of(source)
    return source.load()


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 450
    return said


class Hostile:
    """An object whose unpickling makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def pickled(folder: Path, found: Callable[[Weights], object] = lambda weights: weights, **how: Any) -> None:
    """Put a pickle in the place of the safetensors file."""
    weights = load_file(folder / SAFE)
    (folder / SAFE).unlink()
    torch.save(found(weights), folder / PICKLED, **how)


def sharded(folder: Path) -> list[Path]:
    """The weights as two pickles with an index."""
    weights = load_file(folder / SAFE)
    (folder / SAFE).unlink()
    files = [folder / f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    index = {}
    for n, file in enumerate(files):
        part = dict(list(weights.items())[n::2])
        torch.save(part, file)
        index |= dict.fromkeys(part, file.name)
    (folder / f"{PICKLED}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return files


@pytest.mark.parametrize("form", ["one file", "shards", "before torch 1.6"])
def test_pickled_tensors_are_loaded(form: str, whole: Path, folder: Path):
    if form == "shards":
        sharded(folder)
    else:
        pickled(folder, _use_new_zipfile_serialization=form == "one file")
    theirs, ours = load(whole).model.state_dict(), load(folder).model.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@pytest.mark.parametrize(
    "form", ["one file", "in a shard", "plain pickle", "an optimizer's file", "a module", "adapter"]
)
def test_no_pickle_runs_code(form: str, folder: Path, tmp_path: Path):
    trace = tmp_path / "trace"
    bad = Hostile(trace)
    if form == "in a shard":
        torch.save({"a": bad}, sharded(folder)[1])
    elif form == "plain pickle":
        pickled(folder)
        (folder / PICKLED).write_bytes(pickle.dumps(bad))
    elif form == "an optimizer's file":
        torch.save({"a": bad}, folder / "training_args.bin")
        pickled(folder, lambda weights: {**weights, "a": bad})
    elif form == "a module":
        pickled(folder, lambda _weights: torch.nn.Linear(2, 2))
    elif form == "adapter":
        pickled(folder)
        torch.save({"a": bad}, folder / "adapter_model.bin")
    else:
        pickled(folder, lambda _weights: {"a": bad})
    said = refusal(folder)
    assert "adapter" in said if form == "adapter" else "safetensors" in said
    assert not trace.exists()


def settings(name: str, **changes: Any) -> Change:
    """Change a file of JSON; None removes a key."""

    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return change


def content(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def weights(found: Callable[[Weights], Weights]) -> Change:
    return lambda folder: save_file(found(load_file(folder / SAFE)), folder / SAFE, {"format": "pt"})


def moved(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def index(text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / SAFE).rename(folder / "model-00001-of-00001.safetensors")
        (folder / f"{SAFE}.index.json").write_text(text)

    return change


def tokens(add: Callable[[Any], object]) -> Change:
    def change(folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        add(tokenizer)
        tokenizer.save_pretrained(folder)

    return change


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
GIVEN = f"than config.json gives them, first {UP}"
DAMAGE: dict[str, tuple[Change, str]] = {
    # weights
    "pickle of a list": (lambda f: pickled(f, lambda w: list(w.values())), "its weights cannot be read"),
    "pickle of nothing": (lambda f: pickled(f, lambda _w: None), "its weights cannot be read"),
    "pickle around the weights": (lambda f: pickled(f, lambda w: {"state_dict": w}), "27 weights are missing"),
    "empty pickle": (lambda f: (pickled(f), (f / PICKLED).write_bytes(b"")), "its weights cannot be read"),
    "pickle cut short": (lambda f: (pickled(f), os.truncate(f / PICKLED, 5000)), "its weights cannot be read"),
    "empty file": (content(SAFE, b""), "its weights cannot be read"),
    "header of 2^60 bytes": (content(SAFE, struct.pack("<Q", 1 << 60) + b"{}"), "its weights cannot be read"),
    "pointer": (content(SAFE, POINTER), "model.safetensors is a pointer of Git LFS"),
    "pointer to a pickle": (lambda f: (pickled(f), (f / PICKLED).write_bytes(POINTER)), "pointer of Git LFS"),
    "a row short": (weights(lambda w: w | {UP: w[UP][:-1].clone()}), f"1 weights have other shapes {GIVEN}: 63×32"),
    "a scalar": (weights(lambda w: w | {UP: torch.tensor(1.0)}), f"first {UP}: a number, not 64×32"),
    "one more": (weights(lambda w: w | {"model.layers.9.x": torch.zeros(3)}), "1 weights have no place in the model"),
    "other names": (weights(lambda w: {f"x.{k}": v for k, v in w.items()}), "27 weights are missing"),
    "integers": (weights(lambda w: w | {UP: w[UP].to(torch.int8)}), f"{UP} is stored as I8"),
    "pickled integers": (lambda f: pickled(f, lambda w: w | {UP: w[UP].to(torch.int8)}), f"{UP} is stored as int8"),
    "floats of 8 bits": (weights(lambda w: w | {UP: w[UP].to(torch.float8_e4m3fn)}), f"{UP} is stored as F8_E4M3"),
    "complex": (weights(lambda w: w | {UP: w[UP].to(torch.complex64)}), f"{UP} is stored as C64"),
    "not a number": (weights(lambda w: w | {UP: w[UP] * torch.nan}), "are not finite; its weights are damaged"),
    "a folder": (lambda f: ((f / SAFE).unlink(), (f / SAFE).mkdir()), "no weights (*.safetensors) there"),
    "a dangling link": (lambda f: ((f / SAFE).unlink(), (f / SAFE).symlink_to("nowhere")), "no weights"),
    "weights of Flax": (moved(SAFE, "flax_model.msgpack"), "no weights (*.safetensors) there"),
    "weights of Meta": (moved(SAFE, "consolidated.00.pth"), "no weights (*.safetensors) there"),
    "arguments alone": (moved(SAFE, "training_args.bin"), "no weights (*.safetensors) there"),
    "index of nothing": (index("{}"), "its weights cannot be read"),
    "index that is a list": (index("[]"), "its weights cannot be read"),
    "index to outside": (index(json.dumps({"metadata": {}, "weight_map": {UP: "../../x"}})), "its weights cannot be"),
    # config.json
    "no JSON": (content("config.json", b"not json"), "config.json cannot be read"),
    "no object": (content("config.json", b"[]"), "config.json is not a JSON object"),
    "null": (content("config.json", b"null"), "config.json is not a JSON object"),
    "no text": (content("config.json", b"\xff\xfe\x00"), "config.json cannot be read"),
    "a hundred thousand brackets": (content("config.json", b"[" * 100_000), "config.json cannot be read"),
    "no kind": (settings("config.json", model_type=None), "config.json names no model_type"),
    "a number as kind": (settings("config.json", model_type=5), "config.json names no model_type"),
    "an encoder and decoder": (settings("config.json", model_type="t5"), "T5Config is not a causal language model"),
    "no heads": (settings("config.json", num_attention_heads=0), "senseless settings (ZeroDivisionError"),
    "negative width": (settings("config.json", hidden_size=-1), "senseless settings (RuntimeError"),
    "a word as width": (settings("config.json", hidden_size="x"), "config.json cannot be read"),
    "another width": (settings("config.json", num_attention_heads=3), "weights have other shapes"),
    "an unknown activation": (settings("config.json", hidden_act="x"), "senseless settings (KeyError"),
    "an unknown type": (settings("config.json", dtype="x"), "config.json cannot be read"),
    "fewer layers": (settings("config.json", num_hidden_layers=1, layer_types=None), "12 weights have no place"),
    "code": (settings("config.json", model_type="x", auto_map={"AutoConfig": "c.C"}), "code of its own repository"),
    "code elsewhere": (settings("config.json", model_type="x", auto_map={"AutoConfig": "a/b--c.C"}), "which is never"),
    # quantised weights
    "gptq": (settings("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "quantised (gptq)"),
    "awq": (settings("config.json", quantization_config={"quant_method": "awq", "bits": 4}), "quantised (awq)"),
    "fp8": (settings("config.json", quantization_config={"quant_method": "fp8"}), "quantised (fp8)"),
    "bits and bytes": (settings("config.json", quantization_config={"load_in_8bit": True}), "are quantised"),
    "mxfp4": (settings("config.json", quantization_config={"quant_method": "mxfp4"}), "quantised (mxfp4)"),
    "a new method": (settings("config.json", quantization_config={"quant_method": "x"}), "quantised (x)"),
    "no method": (settings("config.json", quantization_config={}), "are quantised"),
    "a list": (settings("config.json", quantization_config=[1]), "config.json cannot be read"),
    "older name": (settings("config.json", compression_config={"quant_method": "compressed-tensors"}), "quantised"),
    # tokenizer
    "no tokenizer's JSON": (content("tokenizer.json", b"{"), "its tokenizer cannot be read"),
    "null as tokenizer": (content("tokenizer.json", b"null"), "its tokenizer cannot be read"),
    "no tokenizer's settings": (content("tokenizer_config.json", b"[]"), "its tokenizer cannot be read"),
    "pointer to a tokenizer": (content("tokenizer.json", POINTER), "tokenizer.json is a pointer of Git LFS"),
    "junk pieces": (
        lambda f: ((f / "tokenizer.json").unlink(), (f / "tokenizer.model").write_bytes(b"junk")),
        "its tokenizer cannot be read",
    ),
    "twenty tokens more": (
        tokens(lambda t: t.add_tokens([f"foo{i}" for i in range(20)])),
        "the tokenizer has 17 tokens beyond the 429 rows of the embedding, first 'foo3'",
    ),
    "padding beyond": (
        tokens(lambda t: (t.add_tokens(["a1a", "b1b", "c1c"]), t.add_special_tokens({"pad_token": "<PAD>"}))),
        "the tokenizer has 1 tokens beyond the 429 rows of the embedding, first '<PAD>'",
    ),
    # generation config
    "no generation": (content("generation_config.json", b"{"), "generation_config.json cannot be read"),
    "a list as generation": (content("generation_config.json", b"[]"), "is not a JSON object"),
    "no new tokens": (settings("generation_config.json", max_new_tokens=0), "correct or delete that file"),
    # adapters
    "an adapter": (content("adapter_config.json", b"{}"), "holds an adapter (adapter_config.json)"),
    "weights of an adapter": (moved(SAFE, "adapter_model.bin"), "holds an adapter (adapter_model.bin)"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_has_its_line(damage: str, folder: Path):
    change, words = DAMAGE[damage]
    change(folder)
    assert words in refusal(folder)


def test_no_code_of_a_repository_is_run(folder: Path, tmp_path: Path):
    """Under a kind that transformers has, the code of the repository is left alone, and not exported."""
    for name in ("configuration_own.py", "modeling_own.py", "tokenization_own.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nraise SystemExit\n")
    auto = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    settings("config.json", auto_map=auto)(folder)
    settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.Own", None]})(folder)
    assert not hasattr(load(folder).model.config, "auto_map")
    settings("config.json", model_type="own")(folder)
    assert "code of its own repository" in refusal(folder)
    assert not (tmp_path / "trace").exists()


def test_a_special_token_without_a_row_is_tolerated_while_no_text_holds_it(folder: Path):
    """As the token for images in the tokenizer of Gemma 3's models for text."""
    tokens(lambda t: t.add_special_tokens({"extra_special_tokens": [f"<|z{i}|>" for i in range(20)]}))(folder)
    loaded = load(folder)
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    assert max(loaded.tokenizer.get_vocab().values()) >= rows
    assert max(loaded.eos_ids) < rows


def test_an_end_that_is_no_token_ends_nothing(folder: Path):
    settings("generation_config.json", eos_token_id=[10**6, -1])(folder)
    loaded = load(folder)
    assert loaded.eos_ids
    assert all(0 <= i < 429 for i in loaded.eos_ids)
