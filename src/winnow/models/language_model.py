"""The tokens that end a response."""

import hashlib
import os
import shutil
from dataclasses import dataclass, field
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
from winnow.models.backbone import pack_where_exact
from winnow.models.hub import loading_error, locate_model
from winnow.models.lora import Lora, merged_state
from winnow.models.templates import Template
from winnow.rng import seed_of

if TYPE_CHECKING:
    from peft import PeftModel


PROBE_ANSWER = "forty-two"


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that the generation config, the tokenizer or the chat template ends with, in order.

    One may name what the others do not: Qwen2.5-Math's config ends with <|endoftext|>, its chat turns with <|im_end|>.
    """
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    named = [*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id, turn_end(tokenizer)]
    return tuple(sorted({i for i in named if isinstance(i, int)}))


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template puts after what an assistant says, found by rendering such a turn."""
    if tokenizer.chat_template is None:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": PROBE_ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except (TemplateError, ValueError):  # a template for other conversations than these: it has no say
        return None
    assert isinstance(text, str)
    _, said, after = text.rpartition(PROBE_ANSWER)
    ids = tokenizer.encode(after, add_special_tokens=False) if said else []
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((i for i in ids if i in special), None)


CHARACTERS = "0123456789+-=,;}"
r"""Every character of problems and demonstrations beyond `\boxed{`, which is one token."""

PAD, EOS, UNUSED = "<pad>", "<eos>", "<unused>"
BOXED = r"\boxed{"
TOKENS = (PAD, EOS, BOXED, *CHARACTERS, UNUSED)
"""In the order of their ids."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(TOKENS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(BOXED, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNUSED)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Weights in float32, every end-of-sequence id, the one that a demonstration ends with, and the id that fills padding.

    With LoRA, the linear layers of `model` are LoRA layers in place, and `adapter` is peft's view of the same modules.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    end_id: int
    pad_id: int
    adapter: "PeftModel | None" = field(default=None)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: tuple[int, ...]) -> str:
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


class ModelSource(Protocol):
    """What `conf/model` builds: a name, how problems are put to the model, its shape, and the weights when asked."""

    @property
    def name(self) -> str: ...
    @property
    def template(self) -> Template: ...
    @property
    def lora(self) -> Lora | None: ...
    def config(self) -> PreTrainedConfig:
        """Without loading weights, as `tokenizer`."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    def load(self, attention: str | None = None) -> LanguageModel:
        """`attention` names one of transformers' implementations; None is ours where the model can take it."""
        ...


@dataclass(frozen=True, slots=True)
class Pretrained:
    """`path` is a folder, a hub id, a GGUF file, `package:NAME` for one in an installed package, or `embedded`.

    Weights are float32 whatever the checkpoint holds: AdamW at the paper's learning rate leaves most bfloat16 weights
    where they are. Code from a repository is never run.
    """

    name: str
    path: str
    template: Template
    lora: Lora | None = None

    def config(self) -> PreTrainedConfig:
        where = locate_model(self.path)
        try:
            return AutoConfig.from_pretrained(where, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise loading_error(self.path, error) from error

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._tokenizer_of(locate_model(self.path))

    def load(self, attention: str | None = None) -> LanguageModel:
        where = locate_model(self.path)
        tokenizer = self._tokenizer_of(where)
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                where,
                dtype=torch.float32,
                trust_remote_code=False,
                attn_implementation=attention,
                output_loading_info=True,
            )
            model, found = loaded
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise loading_error(self.path, error) from error
        if found["missing_keys"]:  # transformers would draw them at random, and warn
            first = min(found["missing_keys"])
            raise ConfigError(
                f"model.path={self.path}: {len(found['missing_keys'])} weights are missing, first {first}"
            )
        model.name_or_path = self.path  # what an adapter names as its base: no path of this machine
        return _assemble(model, tokenizer, self.lora, pack=attention is None)

    def _tokenizer_of(self, where: str) -> PreTrainedTokenizerBase:
        try:
            return AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        except Exception as error:  # what a damaged file raises depends on its first wrong part
            raise loading_error(self.path, error) from error


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
        return _assemble(model, self.tokenizer(), self.lora, pack=attention is None)


def _assemble(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lora: Lora | None, pack: bool
) -> LanguageModel:
    _without_dropout(model)
    if pack:
        pack_where_exact(model)
    eos_ids = end_ids(model, tokenizer)
    if not eos_ids:
        raise ConfigError("model: neither the generation config nor the tokenizer names an end-of-sequence token")
    pad = tokenizer.pad_token_id
    adapter = None if lora is None else lora.attach(model)
    ends = [i for i in (turn_end(tokenizer), tokenizer.eos_token_id, eos_ids[0]) if isinstance(i, int)]
    return LanguageModel(model, tokenizer, eos_ids, ends[0], pad if isinstance(pad, int) else eos_ids[0], adapter)


def fingerprint(model: PreTrainedModel) -> str:
    """Tells weights apart by about 1,024 evenly spaced numbers of each parameter; cheap at any size."""
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


ADAPTER_CARD = """---
library_name: peft
base_model: {base}
---
Low-rank adapter of the model in the folder above, which has it merged into its weights. Onto the base model:
`PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "adapter")`.
"""


def export_model(language_model: LanguageModel, directory: Path, card: str) -> None:
    """Weights, configuration, tokenizer and a model card, complete or not there at all.

    Of an adapted model the weights are merged, and its adapters alone are in `adapter/`; the model itself stays as it is.
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
        weights.chmod(0o644)  # written 600, which a server under another account could not read
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(temporary, directory)
