"""Loading through the real path from a checkpoint made here, and the errors for a model that cannot be loaded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel, Qwen2Config, Qwen2ForCausalLM

from running import composed, metrics, run
from winnow.data.problems import Problem
from winnow.data.prompts import render
from winnow.errors import ConfigError
from winnow.models.architecture import sees_later_tokens
from winnow.models.language_model import TOKENS, Pretrained, tiny_tokenizer
from winnow.models.templates import Chat, Plain
from winnow.run_logs.run_files import read_samples

from .checkpoints import QWEN_CHAT, qwen


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return qwen(tmp_path / "checkpoint")


def test_a_folder_trains_and_exports_through_the_real_path(checkpoint: Path, tmp_path: Path):
    """`reinforce` has a gradient even if every answer is wrong, as those of a random model are."""
    words = ("algo=reinforce", "model=custom", f"model.path={checkpoint}", "dataset=arithmetic", "iterations=2")
    run(tmp_path / "run", *words, "model/template=boxed_system", "rollout.max_tokens=12", "optim.lr=1e-3")
    assert metrics(tmp_path / "run")[-1]["train/updates"] == 2
    samples = read_samples(tmp_path / "run" / "samples" / "iteration_000001.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for sample in samples:
        assert sample.prompt.startswith("<|im_start|>system\nPlease reason step by step")
        assert sample.prompt_ids is not None
        assert sample.response_ids is not None
        assert tokenizer.decode(sample.prompt_ids) == sample.prompt
        assert tokenizer.decode(sample.response_ids, skip_special_tokens=True) == sample.response
        assert len(sample.response_ids) == sample.length
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "export")
    original = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=exported.dtype)
    assert any((a != b).any() for a, b in zip(exported.parameters(), original.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "export").chat_template == QWEN_CHAT


def load(path: Path | str) -> str:
    """The error, of one line, on loading `path`."""
    with pytest.raises(ConfigError) as caught:
        Pretrained("x", str(path), Plain()).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_custom_model_needs_a_path():
    """Composition leaves the key without a value, which it then refuses, with the words to type."""
    assert OmegaConf.missing_keys(composed("model=custom")) == {"model.path"}


def test_a_model_that_does_not_exist(tmp_path: Path):
    assert load("Qwen/Nowhere").startswith("model Qwen/Nowhere could not be downloaded: not cached, hub unreachable")
    assert "type model.path=DIR" in load("Qwen/Nowhere")
    assert load("./nowhere") == (
        "model.path=./nowhere: no such folder; type model.path=DIR with a Hugging Face model folder"
    )
    (tmp_path / "file").touch()
    assert load(tmp_path / "file").endswith("/file: a file; type model.path=DIR with a Hugging Face model folder")
    assert "gone/: no such folder" in load("gone/")


def bert(folder: Path, decoder: bool) -> Path:
    """A new model of BERT's architecture, of which config.json says whether tokens see earlier ones alone."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(TOKENS), max_position_embeddings=64, is_decoder=decoder, **sizes)
    BertLMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_an_encoder_is_refused_though_its_weights_are_too_small_to_tell(tmp_path: Path):
    Pretrained("x", str(bert(tmp_path / "decoder", decoder=True)), Plain()).load()
    assert "in BertLMHeadModel a token sees later tokens" in load(bert(tmp_path / "encoder", decoder=False))


def test_a_model_that_names_no_end_of_a_response_is_refused(tmp_path: Path):
    settings = bert(tmp_path, decoder=True) / "tokenizer_config.json"
    settings.write_text(json.dumps({k: v for k, v in json.loads(settings.read_text()).items() if k != "eos_token"}))
    assert 'write {"eos_token_id": …} to its generation_config.json' in load(tmp_path)


def remove(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in folder.glob(pattern):
            file.unlink()

    return change


def cut(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-200])

    return change


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def written(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def unknown_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "martian"}))


def of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "no config.json there; it needs config.json, weights"),
    "no weights": (remove("*.safetensors"), "no weights (*.safetensors) there"),
    "no tokenizer": (remove("tokenizer*"), "no tokenizer files (tokenizer.json) there"),
    "nothing": (remove("*"), "no config.json and no weights (*.safetensors) and no tokenizer files"),
    "weights cut short": (cut("model.safetensors"), "no causal language model could be loaded from there"),
    "tokenizer cut short": (cut("tokenizer.json"), "no causal language model could be loaded from there"),
    "tokenizer of something else": (written("tokenizer.json", "[]"), "no causal language model could be loaded"),
    "config cut short": (cut("config.json"), "no causal language model could be loaded from there"),
    "a tensor missing": (without_a_tensor, "1 weights are missing, first model.layers.1.mlp.up_proj.weight"),
    "unknown kind": (unknown_kind, "martian"),
    "other sizes": (of_another_width, "6 weights have other shapes than config.json gives them"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_that_is_not_a_complete_model(damage: str, checkpoint: Path):
    change, words = DAMAGE[damage]
    change(checkpoint)
    assert words in load(checkpoint)


def test_no_chat_template_under_a_chat_prompt(checkpoint: Path):
    (checkpoint / "chat_template.jinja").unlink()
    loaded = Pretrained("x", str(checkpoint), Chat(None, "Box it.")).load()
    with pytest.raises(ConfigError, match=r"no chat template; type model/template=plain"):
        render(Problem("p", "1+1", "2"), loaded.tokenizer, Chat(None, "Box it."))
    assert render(Problem("p", "1+1", "2"), loaded.tokenizer, Plain()).text == "1+1"


class Gated(BaseHTTPRequestHandler):
    """A hub that lists a repository but withholds its files, as hubs do until a licence is accepted."""

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            body = json.dumps({"id": "meta-llama/Gated", "gated": "manual", "siblings": [], "sha": "0" * 40}).encode()
            self.send_response(200)
        else:
            body = b""
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", "Access to model meta-llama/Gated is restricted.")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silence the server."""


@pytest.fixture
def gated_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gated)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ASK = """
from winnow.models.templates import Plain
from winnow.errors import ConfigError
from winnow.models.language_model import TOKENS, Pretrained, tiny_tokenizer
try:
    Pretrained("x", "meta-llama/Gated", Plain()).load()
except ConfigError as error:
    print(error)
"""


def test_the_error_for_a_gated_model_names_its_licence(gated_hub: str, tmp_path: Path):
    """In a process of its own, because the hub's client reads the address when it is imported."""
    proxies = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    there = {"HF_ENDPOINT": gated_hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)} | proxies
    found = subprocess.run([sys.executable, "-c", ASK], env=os.environ | there, capture_output=True, text=True)
    assert found.stdout == (
        "model meta-llama/Gated is gated: accept its licence on its hub page, then type hf auth login; "
        "or type model.path=DIR with a downloaded copy, or model=tiny\n"
    ), found.stderr


def test_a_deep_new_model_is_a_decoder():
    """Its padding token, a row of zeros, has a gradient that overflows in 40 norms; that is no later token's."""
    config = Qwen2Config(
        vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=40, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0,
    )  # fmt: skip
    assert not sees_later_tokens(Qwen2ForCausalLM(config))
