"""Tiny random models of architectures that differ in what a sampler depends on."""

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

VOCAB = 19
# Initialised far wider than the default 0.02, with which a random model is nearly uniform and ignores positions.
_ROPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
}
_LEARNED: dict[str, Any] = {
    "vocab_size": VOCAB,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": None,
}


def qwen2(**changes: Any) -> PreTrainedModel:
    """Rotary positions, tied embeddings."""
    return Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **(_ROPE | changes)))


def qwen2_sliding(**changes: Any) -> PreTrainedModel:
    """As `qwen2`, with a sliding window of 4 positions in the second layer."""
    return qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=1, **changes)


def llama(**changes: Any) -> PreTrainedModel:
    """Rotary positions, two query heads per key-value head, untied embeddings."""
    return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **(_ROPE | changes)))


def gpt2(**changes: Any) -> PreTrainedModel:
    """Learned positions, and dropout of 0.1 everywhere in training mode."""
    return GPT2LMHeadModel(GPT2Config(**(_LEARNED | changes)))


STYLES = {"qwen2": qwen2, "qwen2_sliding": qwen2_sliding, "llama": llama, "gpt2": gpt2}


def tiny(style: str, dtype: torch.dtype = torch.float32, **changes: Any) -> PreTrainedModel:
    """A model with the same random weights each time; `changes` are to its configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return STYLES[style](**changes).to(dtype)  # pyright: ignore[reportArgumentType]
