"""A causal language model with its tokenizer, from a folder, a hub, or made afresh."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from winnow.data.hub import require_reachable
from winnow.data.templates import Template
from winnow.errors import ConfigError
from winnow.models.tiny_tokenizer import EOS, PAD, TOKENS, tiny_tokenizer
from winnow.rng import seed_of


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Weights in float32, every end-of-sequence id, and the id that fills padding."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    pad_id: int

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: tuple[int, ...]) -> str:
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


class ModelSource(Protocol):
    """What `conf/model` builds: a name, how problems are put to the model, and the weights when asked."""

    @property
    def name(self) -> str: ...
    @property
    def template(self) -> Template: ...
    def load(self) -> LanguageModel: ...


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A local folder or a hub id; `embedded` is the model in this package.

    Weights are float32 whatever the checkpoint holds: AdamW at the paper's learning rate leaves most bfloat16 weights
    where they are. Code from a repository is never run.
    """

    name: str
    path: str
    template: Template

    def load(self) -> LanguageModel:
        where = str(files("winnow") / "assets" / "tiny") if self.path == "embedded" else self.path
        _require(where)
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"model.path={self.path}: no causal language model could be loaded from there; "
                "it needs config.json, weights and tokenizer files"
            ) from error
        return _assemble(model, tokenizer)


@dataclass(frozen=True, slots=True)
class FreshTiny:
    """A Qwen2-shaped model with random weights over the embedded tokenizer, from which the embedded base is made."""

    name: str
    template: Template
    seed: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    intermediate: int
    positions: int

    def load(self) -> LanguageModel:
        tokenizer = tiny_tokenizer()
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=self.width,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=TOKENS.index(EOS),
            pad_token_id=TOKENS.index(PAD),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed_of("weights", self.seed))
            model = Qwen2ForCausalLM(config)
        return _assemble(model, tokenizer)


def _assemble(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LanguageModel:
    _without_dropout(model)
    eos_ids = tuple(sorted(_eos_ids(model, tokenizer)))
    if not eos_ids:
        raise ConfigError("model: neither the generation config nor the tokenizer names an end-of-sequence token")
    pad = tokenizer.pad_token_id
    return LanguageModel(model, tokenizer, eos_ids, pad if isinstance(pad, int) else eos_ids[0])


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """A model may end with more ids than its tokenizer names, and the other way round."""
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    named = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id]
    return {i for i in named if isinstance(i, int)}


def fingerprint(model: PreTrainedModel) -> str:
    """Tells weights apart by up to 1,024 evenly spaced numbers of each parameter; cheap at any size."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        digest.update(name.encode() + flat[:: max(1, len(flat) // 1024)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _without_dropout(model: PreTrainedModel) -> None:
    """With dropout a ratio would not be 1 for an unchanged policy."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            object.__setattr__(module, "attention_dropout", 0.0)


def _require(path: str) -> None:
    """Refuse a folder that is not there, or a repository that is neither cached nor to be had."""
    if Path(path).is_dir():
        return
    if Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ConfigError(f"model.path={path}: no such folder; type model.path=DIR with a Hugging Face model folder")
    if not isinstance(try_to_load_from_cache(path, "config.json"), str):
        require_reachable(path, "model", "connect, or type model.path=DIR with a downloaded copy, or model=tiny")
