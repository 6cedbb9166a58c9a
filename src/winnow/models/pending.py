"""Language models without memory, whose ranks each read their own shards of the weights (hardware.strategy=fsdp).

The checks of a start run on a shallow model with the first blocks of the same weights, because no rank holds them all.
Weights in safetensors files are read row by row. A model whose weights come otherwise (GGUF, pickles, weights that
transformers renames, the embedded model) is loaded whole once, into main memory, and its shards are taken from there.
"""

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedModel

from winnow.models.hub import locate_model
from winnow.models.language_model import (
    LanguageModel,
    ModelSource,
    PendingWeights,
    Pretrained,
    assemble,
    source_name,
)
from winnow.models.model_files import weight_files
from winnow.models.model_folder import require_floating, require_generation_config
from winnow.models.sharding import replace_parameters, without_memory
from winnow.models.weights import FolderWeights, HeldWeights, LayeredWeights, Weights, whole

CHECKED_BLOCKS = 2
"""Blocks of the model on which the checks of a start run: the least in which one block's output is another's input."""


def load_pending(source: ModelSource, attention: str | None, dtype: torch.dtype) -> LanguageModel:
    """The model of `source` without memory, in `dtype`, with the weights that its ranks will read.

    Raises:
        ConfigError: the model cannot be loaded.
    """
    found = _from_folder(source, attention, dtype) if isinstance(source, Pretrained) else None
    return found or _from_whole(source.load(attention), dtype)


def _from_whole(loaded: LanguageModel, dtype: torch.dtype) -> LanguageModel:
    """The model that was loaded whole, without its memory; its weights stay in main memory until they are sharded."""
    loaded.model.to(dtype)  # pyright: ignore[reportArgumentType]
    tensors = {source_name(name): p.detach() for name, p in loaded.model.named_parameters()}
    checked = copy.deepcopy(loaded.model)
    _forget(loaded.model)
    return replace(loaded, pending=_pending(HeldWeights(tensors), checked, loaded))


def _pending(weights: Weights, checked: PreTrainedModel, loaded: LanguageModel) -> PendingWeights:
    if loaded.adapter is None:
        return PendingWeights(weights, checked, without_memory(loaded.model))
    adapter = without_memory(loaded.adapter)
    bare = adapter.get_base_model()
    assert isinstance(bare, PreTrainedModel)
    return PendingWeights(weights, checked, bare, adapter)


def _from_folder(source: Pretrained, attention: str | None, dtype: torch.dtype) -> LanguageModel | None:
    """The model whose weights stand in safetensors files under the names of its parameters; None if they do not."""
    where = locate_model(source.path)
    config = source.config()
    files = tuple(file for file in weight_files(where) if file.suffix == ".safetensors")
    require_generation_config(source.path, where)
    with init_empty_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    weights = FolderWeights(files)
    if not files or not _has_all(weights, model):
        return None
    checked = _shallow(config, attention, dtype, weights)
    if checked is None:
        return None
    require_floating(source.path, where, model)
    for one in (model, checked):
        one.name_or_path = source.path
        with suppress(OSError):  # there is none
            one.generation_config = GenerationConfig.from_pretrained(where)
    tokenizer = source.read(AutoTokenizer, "its tokenizer", where)
    found = assemble(model.eval(), tokenizer, None, attention, checked.eval())
    if source.lora is None:
        return replace(found, pending=_pending(weights, checked, found))
    source.lora.attach(checked)
    _on(model, lambda p: torch.empty(p.shape, dtype=p.dtype))  # touched by nobody, so that it takes no memory
    adapter = source.lora.attach(model)
    drawn = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    _forget(model)
    everything = LayeredWeights(HeldWeights(drawn), weights)
    found = replace(found, adapter=adapter)
    return replace(found, pending=_pending(everything, checked, found))


def _has_all(weights: Weights, model: nn.Module) -> bool:
    """Whether all that a checkpoint of the model holds is there, with its shapes, and nothing that has no place."""
    shapes = weights.shapes()
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - parameters.keys()
    persistent = model.state_dict().keys() - parameters.keys() - tied
    same = all(shapes.get(name) == shape for name, shape in parameters.items())
    return same and not persistent and not shapes.keys() - parameters.keys() - tied


def _shallow(
    config: PreTrainedConfig, attention: str | None, dtype: torch.dtype, weights: Weights
) -> PreTrainedModel | None:
    """The first blocks of the model with their weights; None where an architecture cannot be cut so."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    depth = min(CHECKED_BLOCKS, text.num_hidden_layers)
    if isinstance(kinds := getattr(text, "layer_types", None), list):
        text.layer_types = kinds[:depth]
    text.num_hidden_layers = depth
    with init_empty_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    names = {name for name, _ in model.named_parameters()}
    if not names <= weights.shapes().keys():
        return None
    made = {p: nn.Parameter(whole(weights, name).to(dtype)) for name, p in model.named_parameters()}
    replace_parameters(model, made)
    return model


def _forget(model: nn.Module) -> None:
    """Take the memory of all parameters of the model, in place."""
    _on(model, lambda p: p.detach().to("meta"))


def _on(model: nn.Module, make: Callable[[nn.Parameter], torch.Tensor]) -> None:
    made = {p: nn.Parameter(make(p), p.requires_grad) for p in model.parameters()}
    replace_parameters(model, made)
