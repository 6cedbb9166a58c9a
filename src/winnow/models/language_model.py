"""Language models: weights with tokenizer and end-of-sequence ids, their sources, and their export."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
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
from transformers.utils import logging as transformers_logging

from winnow import distributed
from winnow.errors import ConfigError
from winnow.finite import all_finite, nonfinite_names
from winnow.models.architecture import EAGER, settle_attention
from winnow.models.generation_config import embedding_rows, end_ids, mend, turn_end
from winnow.models.hub import gated_error, locate_model
from winnow.models.lora import Lora
from winnow.models.model_files import loading_error
from winnow.models.model_folder import (
    require_all_weights,
    require_floating,
    require_generation_config,
    require_trainable,
)
from winnow.models.shape import DecoderShape
from winnow.models.templates import Template
from winnow.models.weights import Weights, whole
from winnow.rng import seed_of
from winnow.visible_text import visible

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True)
class PendingWeights:
    """Weights of a model without memory, which every rank reads in part once it knows its shards.

    They are named as in `model.named_parameters()`, but for adapters without peft's `.base_layer`. `checked` is a model
    of the same kind with the first blocks alone. `bare` is the whole model without memory, and `bare_adapter` peft's
    view of it under LoRA.
    """

    weights: Weights
    checked: PreTrainedModel
    bare: PreTrainedModel
    bare_adapter: "PeftModel | None" = None

    def release(self) -> None:
        """Give back the memory of the weights and of `checked`, once all ranks have their shards."""
        self.weights.close()
        for parameter in self.checked.parameters():
            parameter.data = parameter.data.new_empty(0)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model with float32 weights, or float64 ones where the run computes in them, and its tokenizer.

    `eos_ids` are all ids that end a response, `end_id` is the one that ends a demonstration, and `pad_id` fills
    padding. `left_out` names the settings of the model's generation config that could not be saved again. With LoRA,
    the linear layers of `model` are LoRA layers in place, and `adapter` is peft's view of the same modules.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    end_id: int
    pad_id: int
    adapter: "PeftModel | None" = None
    left_out: tuple[str, ...] = ()
    pending: "PendingWeights | None" = None

    @property
    def checked(self) -> PreTrainedModel:
        """The model on which the checks of a start run: this one, or for one without weights yet a shallow one."""
        return self.model if self.pending is None else self.pending.checked

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


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A checkpoint at `path`, which `hub.locate_model` resolves.

    Weights become float32 whatever the checkpoint holds, because AdamW at the paper's learning rate leaves most
    bfloat16 weights unchanged. Code from a repository is never run, and what `model_folder` lists is refused. `shape`
    is what the model at `shape.of` is known to be, so that `winnow plan` needs neither hub nor weights.
    """

    name: str
    path: str
    template: Template
    lora: Lora | None = None
    shape: DecoderShape | None = None

    def config(self) -> PreTrainedConfig:
        return self._config(locate_model(self.path))

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.read(AutoTokenizer, "its tokenizer", locate_model(self.path))

    def load(self, attention: str | None = None) -> LanguageModel:
        where = locate_model(self.path)
        self._config(where)
        require_generation_config(self.path, where)
        tokenizer = self.read(AutoTokenizer, "its tokenizer", where)
        settings = {"dtype": torch.float32, "attn_implementation": attention, "output_loading_info": True}
        model, found = self.read(
            AutoModelForCausalLM, "its weights", where, ignore_mismatched_sizes=True, weights_only=True, **settings
        )
        require_all_weights(self.path, found)
        require_floating(self.path, where, model)
        model.name_or_path = self.path  # what an adapter names as its base, which must not be a path of this machine
        return assemble(model, tokenizer, self.lora, attention)

    def _config(self, where: str) -> PreTrainedConfig:
        config = self.read(AutoConfig, "config.json", where)
        require_trainable(self.path, config)
        if self.shape is not None and self.shape.of == self.path:
            require_shape(self.path, config, self.shape)
        return config

    def read(self, kind: Any, part: str, where: str, **settings: Any) -> Any:
        try:
            with _without_warnings():  # a table of the weights that do not fit, which `require_all_weights` words
                return kind.from_pretrained(where, trust_remote_code=False, **settings)
        except Exception as error:  # what a damaged file raises depends on its first wrong part
            raise gated_error(self.path, error) or loading_error(self.path, part, error) from error


def require_shape(path: str, config: PreTrainedConfig, shape: DecoderShape) -> None:
    """Check that the model at `path` has the sizes that `model.shape` gives it.

    Raises:
        ConfigError: one differs.
    """
    text = config.get_text_config()
    found = {
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "intermediate": text.intermediate_size,
        "heads": text.num_attention_heads,
        "kv_heads": text.num_key_value_heads,
        "vocabulary": text.vocab_size,
        "tied": config.tie_word_embeddings,
    }
    for name, value in found.items():
        if (given := getattr(shape, name)) != value:
            raise ConfigError(f"model.shape.{name}={given}: the model at {path} has {value}; leave it out")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Context in which transformers logs errors alone."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


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
        return assemble(model, self.tokenizer(), self.lora, attention)


def assemble(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lora: Lora | None,
    attention: str | None,
    checked: PreTrainedModel | None = None,
) -> LanguageModel:
    """The language model of a model and its tokenizer, which are checked.

    `checked` is the model with weights on which to check the attention, if `model` has none yet.

    Raises:
        ConfigError: they do not fit each other, or cannot be trained.
    """
    _remove_dropout(model)
    if checked is None:
        require_finite_weights(model, "model")
        settle_attention(model, attention)
    else:
        _remove_dropout(checked)
        settle_attention(checked, attention)
        model.set_attn_implementation(checked.config._attn_implementation or EAGER)
    require_ids(model, tokenizer)
    vars(model.config).pop("auto_map", None)  # names code of the repository, which is neither run nor exported
    eos_ids, left_out = end_ids(model, tokenizer), mend(model)
    if not eos_ids:
        raise ConfigError(
            "model: neither its generation config nor its tokenizer names an end-of-sequence token, so that no "
            'response would end; write {"eos_token_id": …} to its generation_config.json'
        )
    pad = tokenizer.pad_token_id
    adapter = None if lora is None else lora.attach(model)
    ends = [i for i in (turn_end(tokenizer), tokenizer.eos_token_id, eos_ids[0]) if isinstance(i, int)]
    return LanguageModel(
        model, tokenizer, eos_ids, ends[0], pad if isinstance(pad, int) else eos_ids[0], adapter, left_out
    )


def require_finite_weights(model: PreTrainedModel, subject: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ConfigError: one is; the message begins with `subject`.
    """
    if all_finite([*model.parameters()]):
        return
    names = nonfinite_names(model.named_parameters())
    raise ConfigError(f"{subject}: {names[0]} holds numbers that are not finite; its weights are damaged")


def require_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that every id that a prompt or a response can have is one of the embedding's rows.

    A special token beyond them does no harm if no text holds it: Gemma 3's tokenizer has one for images, which its
    models for text alone do not have.

    Raises:
        ConfigError: the tokenizer can give an id without a row.
    """
    rows = embedding_rows(model)
    template = str(tokenizer.chat_template)
    named = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows)
    used = [token for i, token in beyond if i not in special or i in named or token in template]
    if used:
        raise ConfigError(
            f"model: the tokenizer has {len(beyond)} tokens beyond the {rows} rows of the embedding, first "
            f"{visible(used[0])[:40]!r}; type model.path=DIR with a tokenizer and weights that belong together, "
            "or enlarge the embedding (resize_token_embeddings) and save the model anew"
        )


def _remove_dropout(model: PreTrainedModel) -> None:
    """Set dropout to 0, because with it the importance ratio of an unchanged policy would not be 1."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in name or "layerdrop" in name):
                setattr(module, name, 0.0)


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


def fingerprint(model: PreTrainedModel, frozen_only: bool = False) -> str:
    """A hash that tells weights apart by about 1,024 evenly spaced numbers of each parameter; cheap at any size.

    With `frozen_only`, of those parameters that are not trained. All ranks have to ask for that of a sharded model
    together.
    """
    parameters = [(name, p) for name, p in model.named_parameters() if not (frozen_only and p.requires_grad)]
    sampled = distributed.every_nth([p.detach() for _, p in parameters], [_spacing(p) for _, p in parameters])
    return _digest((name, numbers) for (name, _), numbers in zip(parameters, sampled, strict=True))


def initial_fingerprint(language_model: LanguageModel) -> str:
    """The `fingerprint` of a model as it was loaded, even if it still waits for its weights."""
    if language_model.pending is None:
        return fingerprint(language_model.model)
    weights, names = language_model.pending.weights, language_model.model.named_parameters()
    tensors = ((name, whole(weights, source_name(name)).to(p.dtype).flatten()) for name, p in names)
    return _digest((name, flat[:: _spacing(flat)]) for name, flat in tensors)


def source_name(name: str) -> str:
    """The name of a parameter's tensor among pending weights: peft puts an adapted layer's weights below it."""
    return name.replace(".base_layer.", ".")


def _spacing(tensor: torch.Tensor) -> int:
    return max(1, tensor.numel() // 1024)


def _digest(sampled: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, numbers in sampled:
        digest.update(name.encode() + numbers.float().cpu().numpy().tobytes())
    return digest.hexdigest()
