"""Small checkpoints with the real families' architecture options, tokenizers and chat templates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CORPUS = [
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May.",
    "How many clips did Natalia sell altogether in April and May?",
    "Let's think step by step and output the final answer within \\boxed{}",
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "The answer is \\boxed{72}. Therefore 48 + 24 = 72 clips were sold altogether.\n\nIt's done.",
    "system user assistant system user assistant Cutting Knowledge Date: December 2023",
]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Llama 3's pre-tokenizer; Qwen2's has \\p{N} in place of \\p{N}{1,3}."""

QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)

QWEN_CHAT = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nPlease reason step by step, and put your final answer within \\\\boxed{}.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA_CHAT = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = _trained(SPLIT.replace("{1,3}", ""), QWEN_SPECIAL)
    return _fast(tokenizer, QWEN_SPECIAL, QWEN_CHAT, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that puts <|begin_of_text|> before every text and has no padding token."""
    tokenizer = _trained(SPLIT, LLAMA_SPECIAL)
    bos = "<|begin_of_text|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return _fast(tokenizer, LLAMA_SPECIAL, LLAMA_CHAT, bos_token=bos, eos_token="<|eot_id|>")


def _trained(split: str, special: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _fast(tokenizer: Tokenizer, special: Sequence[str], chat: str, **named: str) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.add_special_tokens({"extra_special_tokens": list(special)})
    fast.chat_template = chat
    return fast


SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}


def qwen(folder: Path, tied: bool = True) -> Path:
    """Qwen2.5-Math, whose generation config asks for filtered sampling and names <|endoftext|> as the only end."""
    tokenizer = qwen_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 3,  # the family pads its embeddings
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        **SHAPE,
    )
    hostile = {"do_sample": True, "top_k": 1, "top_p": 0.1, "temperature": 0.7, "repetition_penalty": 1.5}
    return _saved(folder, Qwen2ForCausalLM, config, tokenizer, ["<|endoftext|>"], hostile)


def llama(folder: Path) -> Path:
    """Llama-3.2-Instruct: tied embeddings, scaled rotary positions, and three ends in its generation config."""
    tokenizer = llama_tokenizer()
    ends = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.convert_tokens_to_ids(ends),
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 64,
        },
        **SHAPE,
    )
    hostile = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    return _saved(folder, LlamaForCausalLM, config, tokenizer, ends, hostile)


def _saved(
    folder: Path,
    kind: type[PreTrainedModel],
    config: Any,
    tokenizer: PreTrainedTokenizerFast,
    ends: Sequence[str],
    generation: dict[str, Any],
) -> Path:
    """A checkpoint of random weights in bfloat16, as hubs store them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).to(torch.bfloat16)
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ends]
    model.generation_config.update(eos_token_id=ids if len(ids) > 1 else ids[0], **generation)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
