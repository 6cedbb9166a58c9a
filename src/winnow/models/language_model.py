"""Language models: weights with tokenizer and end-of-sequence ids, their sources, and their export."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from winnow.errors import ConfigError
from winnow.models.architecture import settle_attention
from winnow.models.hub import loading_error, locate_model
from winnow.models.lora import Lora, merged_state
from winnow.models.templates import Template
from winnow.rng import seed_of

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model with float32 weights, or float64 ones where the run computes in them, and its tokenizer.

    `eos_ids` are all ids that end a response, `end_id` is the one that ends a demonstration, and `pad_id` fills
    padding. With LoRA, the linear layers of `model` are LoRA layers in place, and `adapter` is peft's view of the same
    modules.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    end_id: int
    pad_id: int
    adapter: "PeftModel | None" = None

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: tuple[int, ...]) -> str:
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


class ModelSource(Protocol):
    """Interface of the objects that `conf/model` builds, from which a model is loaded."""

    @property
    def name(self) -> str: ...
    @property
    def template(self) -> Template: ...
    @property
    def lora(self) -> Lora | None: ...
    def config(self) -> PreTrainedConfig:
        """The configuration, without loading weights."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, without loading weights."""
        ...

    def load(self, attention: str | None = None) -> LanguageModel:
        """The model on one of transformers' attention implementations, or for None on packed attention if it can."""
        ...


LOADING_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A checkpoint at `path`, which `hub.locate_model` resolves.

    Weights become float32 whatever the checkpoint holds, because AdamW at the paper's learning rate leaves most
    bfloat16 weights unchanged. Code from a repository is never run.
    """

    name: str
    path: str
    template: Template
    lora: Lora | None = None

    def config(self) -> PreTrainedConfig:
        return self._read(AutoConfig, locate_model(self.path))

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._read_tokenizer(locate_model(self.path))

    def load(self, attention: str | None = None) -> LanguageModel:
        where = locate_model(self.path)
        tokenizer = self._read_tokenizer(where)
        settings = {"dtype": torch.float32, "attn_implementation": attention, "output_loading_info": True}
        model, found = self._read(AutoModelForCausalLM, where, **settings)
        if found["missing_keys"]:  # transformers would draw them at random and only warn
            first = min(found["missing_keys"])
            raise ConfigError(
                f"model.path={self.path}: {len(found['missing_keys'])} weights are missing, first {first}"
            )
        model.name_or_path = self.path  # what an adapter names as its base, which must not be a path of this machine
        return _assemble(model, tokenizer, self.lora, attention)

    def _read_tokenizer(self, where: str) -> PreTrainedTokenizerBase:
        # Any exception, because what a damaged tokenizer file raises depends on its first wrong part.
        return self._read(AutoTokenizer, where, errors=(Exception,))

    def _read(
        self, kind: Any, where: str, errors: tuple[type[Exception], ...] = LOADING_ERRORS, **settings: Any
    ) -> Any:
        try:
            return kind.from_pretrained(where, trust_remote_code=False, **settings)
        except errors as error:
            raise loading_error(self.path, error) from error


@dataclass(frozen=True, slots=True)
class FreshTiny:
    """A Qwen2 model with random weights over the embedded tokenizer, from which the embedded base model is made."""

    name: str
    template: Template
    seed: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    intermediate: int
    positions: int
    lora: Lora | None = None

    def config(self) -> PreTrainedConfig:
        return Qwen2Config(
            vocab_size=len(TOKENS),
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

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tiny_tokenizer()

    def load(self, attention: str | None = None) -> LanguageModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed_of("weights", self.seed))
            model = Qwen2ForCausalLM._from_config(self.config(), attn_implementation=attention)
        return _assemble(model, self.tokenizer(), self.lora, attention)


def _assemble(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lora: Lora | None, attention: str | None
) -> LanguageModel:
    _remove_dropout(model)
    settle_attention(model, attention)
    eos_ids = end_ids(model, tokenizer)
    if not eos_ids:
        raise ConfigError("model: neither the generation config nor the tokenizer names an end-of-sequence token")
    pad = tokenizer.pad_token_id
    adapter = None if lora is None else lora.attach(model)
    ends = [i for i in (turn_end(tokenizer), tokenizer.eos_token_id, eos_ids[0]) if isinstance(i, int)]
    return LanguageModel(model, tokenizer, eos_ids, ends[0], pad if isinstance(pad, int) else eos_ids[0], adapter)


def _remove_dropout(model: PreTrainedModel) -> None:
    """Set dropout to 0, because with it the importance ratio of an unchanged policy would not be 1."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in name or "layerdrop" in name):
                setattr(module, name, 0.0)


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every end-of-sequence id of the generation config, the tokenizer and the chat template, in ascending order.

    Each may name one that the others do not: Qwen2.5-Math's config names <|endoftext|>, but its chat turns end with
    <|im_end|>.
    """
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    named = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id, turn_end(tokenizer)]
    return tuple(sorted({i for i in named if isinstance(i, int)}))


PROBE_ANSWER = "forty-two"


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template puts after an assistant's message, found by rendering one."""
    if tokenizer.chat_template is None:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE_ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, ValueError):  # the template is for conversations of another kind
        return None
    assert isinstance(text, str)
    _, said, after = text.rpartition(PROBE_ANSWER)
    ids = tokenizer.encode(after, add_special_tokens=False) if said else []
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((i for i in ids if i in special), None)


CHARACTERS = "0123456789+-=,;}"
r"""Every character of arithmetic problems and demonstrations except `\boxed{`, which is one token."""
PAD, EOS, UNUSED = "<pad>", "<eos>", "<unused>"
BOXED = r"\boxed{"
TOKENS = (PAD, EOS, BOXED, *CHARACTERS, UNUSED)
"""The embedded model's vocabulary in the order of its ids."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The embedded model's tokenizer: one token for each of `CHARACTERS`, and one for the start of a box."""
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(TOKENS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(BOXED, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNUSED)


def fingerprint(model: PreTrainedModel) -> str:
    """A hash that tells weights apart by about 1,024 evenly spaced numbers of each parameter; cheap at any size."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        digest.update(name.encode() + flat[:: max(1, len(flat) // 1024)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


ADAPTER_CARD = """---
library_name: peft
base_model: {base}
---
Low-rank adapter of the model in the folder above, whose weights have it merged in. To load it onto the base model:
`PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "adapter")`.
"""


def export_model(language_model: LanguageModel, directory: Path, card: str) -> None:
    """Write weights, configuration, tokenizer and model card to `directory`, which then is complete or absent.

    For a model with adapters the exported weights are merged, and `adapter/` holds the adapters alone; the model itself
    is not changed.
    """
    temporary = directory.with_name(f".tmp-{directory.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    if language_model.adapter is None:
        language_model.model.save_pretrained(temporary)
    else:
        language_model.model.save_pretrained(temporary, state_dict=merged_state(language_model.adapter))
        # "auto" would ask the hub whether the vocabulary was resized.
        language_model.adapter.save_pretrained(str(temporary / "adapter"), save_embedding_layers=False)
        base = language_model.adapter.peft_config["default"].base_model_name_or_path
        (temporary / "adapter" / "README.md").write_text(ADAPTER_CARD.format(base=base))
    language_model.tokenizer.save_pretrained(temporary)
    (temporary / "README.md").write_text(card)
    for weights in temporary.rglob("*.safetensors"):
        weights.chmod(0o644)  # they are written with mode 600, which a server under another account could not read
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
