"""Tiny checkpoints of the causal language models that transformers has, with weights that show mistakes."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 64
SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), VOCABULARY),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "dim_model", "embedding_size", "word_embed_proj_dim"), 32
    ),
    **dict.fromkeys(("ffn_dim", "intermediate_size", "n_inner", "d_ff", "dff", "dim_ff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "intermediate_size_mlp", "lru_width"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "dim_head", "v_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank", "moe_intermediate_size"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "state_size", "mamba_d_state", "ssm_state_size"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "top_k_experts"), 2),
    **dict.fromkeys(("first_k_dense_replace", "n_group", "topk_group"), 1),
    "shared_expert_intermediate_size": 16,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "rotary_dim": 4,
    "sliding_window": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Sizes for every configuration, by the names that architectures give them. Windows are shorter than the rows."""
OWN: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 1.0},
    "cohere2": {"logit_scale": 1.0},
    "cohere2_moe": {"logit_scale": 1.0},
    "deepseek_v2": {"topk_method": "greedy", "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "gemma2": {"attn_logit_softcapping": 2.0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 5},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "inkling_text": {"logits_mup_width_multiplier": 1.0},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "minicpm3": {"dim_model_base": 32, "scale_emb": 1},
    "ministral": {"head_dim": 8},
    "moshi": {"sliding_window": 64},  # its own forward has no window, and its cache does
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}
"""Further settings that an architecture needs at these sizes, or that switch on what makes it special."""


def small_config(kind: str) -> PreTrainedConfig:
    """The configuration of an architecture at a width of 32 with two layers."""
    kinds = CONFIG_MAPPING[kind]
    default = kinds()
    sizes = {name: size for name, size in SMALL.items() if settable(kinds, default, name)}
    if "qk_rope_head_dim" in sizes:  # multi-head latent attention
        sizes |= {name: size for name, size in {"head_dim": 4, "num_key_value_heads": 4}.items() if name in sizes}
    return kinds(**(sizes | OWN.get(kind, {})))


def settable(kind: type, config: PreTrainedConfig, name: str) -> bool:
    if isinstance(getattr(kind, name, None), property):
        return False
    try:
        return getattr(config, name, None) is not None
    except Exception:  # of a size that differs from layer to layer
        return False


def scaled_up(model: PreTrainedModel) -> PreTrainedModel:
    """The model with weights that give far from uniform logits, so that a part of it that is left out shows."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in sorted(model.named_parameters()):
        if weight.dim() >= 2:
            weight.data.normal_(0, 1.5 * weight.shape[-1] ** -0.5, generator=generator)
        elif name.endswith(("bias", "sinks")):
            weight.data.normal_(0, 0.5, generator=generator)
    return model


def small_tokenizer() -> PreTrainedTokenizerFast:
    # The last one because transformers' class of Qwen's tokenizers adds it where a vocabulary lacks it.
    names = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, VOCABULARY - 1)), "<|endoftext|>"]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def checkpoint(kind: str, folder: Path, **changes: Any) -> Path:
    """A folder as a user has it, of one architecture with random weights."""
    config = small_config(kind)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = scaled_up(AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder
