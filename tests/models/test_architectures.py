"""Every causal language model of transformers: honoured to rounding, or refused in one line.

Each is loaded from a folder as a user has it, with random weights large enough that a part of the model that is left
out shows. Packed rows, and samples drawn with a cache beside others of other lengths, are held against a plain forward
of each row alone by transformers' eager attention.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from winnow.engines.torch_engine import TorchEngine
from winnow.errors import ConfigError
from winnow.models.attention import is_packed
from winnow.models.language_model import LanguageModel, Pretrained
from winnow.models.policy import Policy
from winnow.models.templates import Plain
from winnow.packed import pack
from winnow.types import Completion, Prompt, Row, Sampling

from .architectures import checkpoint

PACKED = (
    "apertus",
    "arcee",
    "aria_text",
    "axk1",
    "biogpt",
    "bitnet",
    "cohere",
    "ctrl",
    "deepseek_v2",
    "deepseek_v3",
    "dots1",
    "ernie4_5",
    "ernie4_5_moe",
    "flex_olmo",
    "fuyu",
    "gemma",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "gpt-sw3",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "granite",
    "granitemoe",
    "granitemoeshared",
    "helium",
    "hrm_text",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "hy_v3",
    "hyperclovax",
    "jais2",
    "laguna",
    "lfm2",
    "llama",
    "longcat_flash",
    "mellum",
    "minicpm3",
    "minimax_m2",
    "minimax_m3_vl_text",
    "ministral3",
    "mixtral",
    "nanochat",
    "olmo",
    "olmo2",
    "olmoe",
    "opt",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "seed_oss",
    "smollm3",
    "solar_open",
    "starcoder2",
    "youtu",
)
"""Architectures whose rows are packed: a prompt is computed once for all its samples."""
PADDED = (
    "afmoe",
    "axk2",
    "codegen",
    "cohere2",
    "cohere2_moe",
    "cwm",
    "deepseek_v32",
    "diffllama",
    "doge",
    "exaone4",
    "exaone_moe",
    "falcon",
    "falcon_h1",
    "gemma2",
    "gemma3_text",
    "gemma4_text",
    "gemma4_unified_text",
    "glm_moe_dsa",
    "gpt_neo",
    "gpt_neox_japanese",
    "gpt_oss",
    "gptj",
    "granite_swa",
    "granitemoe_swa",
    "hy_v4",
    "inkling_text",
    "lfm2_moe",
    "llama4_text",
    "mimo_v2_flash",
    "ministral",
    "mistral",
    "modernbert-decoder",
    "moshi",
    "nemotron",
    "nemotron_h",
    "olmo3",
    "olmo_hybrid",
    "stablelm",
    "vaultgemma",
    "xglm",
    "zamba",
    "zamba2",
    "zaya",
)
"""Architectures that keep an attention of transformers' own, on padded rows: sliding windows, caps on scores, sinks,
attention with a bias, convolutions and states that honour a mask."""
LATER, POSITIONS = "a token sees later tokens", "takes no position_ids"
CACHE = "cannot be sampled in batches with a cache"
REFUSED = {
    LATER: (
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "cpmant",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "prophetnet",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roformer",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xlnet",
    ),
    POSITIONS: (
        "bart",
        "bigbird_pegasus",
        "blenderbot",
        "blenderbot-small",
        "bloom",
        "falcon_mamba",
        "mamba",
        "mamba2",
        "marian",
        "mbart",
        "mpt",
        "mvp",
        "pegasus",
        "plbart",
        "rwkv",
        "trocr",
        "whisper",
        "xlstm",
    ),
    CACHE: (
        "bamba",
        "deepseek_v4",
        "granitemoehybrid",
        "jamba",
        "jetmoe",
        "kimi_linear",
        "minimax",
        "openai-gpt",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "qwen4_exp_text",
        "recurrent_gemma",
    ),
    "cannot compute log-probabilities from token ids alone": ("xmod",),
}
"""Architectures that are refused, by the words of the line that says why: encoders read what follows, old decoders
count padding as positions, and recurrent states take padding in."""
UNTRIED = (
    "blt",
    "cohere_compass_text",
    "dbrx",
    "emu3",
    "gemma3",
    "gemma3n",
    "gemma3n_text",
    "gemma4",
    "gemma4_assistant",
    "gemma4_unified",
    "gemma4_unified_assistant",
    "git",
    "got_ocr2",
    "llama4",
    "mllama",
    "musicgen",
    "musicgen_melody",
    "phi4_multimodal",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen4_exp",
    "reformer",
    "roc_bert",
)
"""Architectures that are not built here: models of images or sound around a text model, which stands above under its
own name; models that need further packages; and those without small sizes."""
QUICK = (
    "falcon",
    "gemma2",
    "gpt2",
    "gpt_oss",
    "jamba",
    "llama",
    "mistral",
    "mpt",
    "opt",
    "qwen2_moe",
    "roberta",
    "zaya",
)
PROMPTS = ((1, *range(3, 17)), (1, *range(30, 34)), (1, *range(40, 49)))
"""The longest is longer than every window."""
TOLERANCE = 1e-4
ROUGHER = {"nemotron_h": 1e-2, "zamba2": 1e-3}
"""Tolerances of recurrent states, which a forward computes in chunks and a sampler token by token."""


def reasons() -> dict[str, str]:
    return {name: words for words, names in REFUSED.items() for name in names}


def parametrized() -> list[object]:
    """Every architecture that is tried; all but a few are for `make test-faults`."""
    every = (*PACKED, *PADDED, *reasons())
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.faults) for name in every]


def test_the_tables_name_every_architecture_of_transformers_once():
    tables = [*PACKED, *PADDED, *reasons(), *UNTRIED]
    assert len(tables) == len(set(tables))
    assert set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) <= set(tables), "new architectures: try them, and add their rows"


def plain(model: PreTrainedModel, row: Row) -> Tensor:
    tokens = torch.tensor([row.token_ids])
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits[0, row.prompt_length - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, tokens[0, row.prompt_length :, None]).squeeze(-1)


def drawn(loaded: LanguageModel) -> list[tuple[Row, Completion]]:
    """Four samples of each prompt, decoded together as a run does it, eight rows at a time."""
    engine = TorchEngine(loaded.eos_ids, loaded.pad_id, max_rows=8)
    engine.require_model(loaded.model)
    engine.sync(loaded.model, 0)
    prompts = [Prompt(str(n), ids, "", "") for n, ids in enumerate(PROMPTS)]
    groups = engine.generate(prompts, [range(4)] * 3, Sampling(1.0, 12))
    return [
        (Row(ids + one.token_ids, len(ids)), one) for ids, group in zip(PROMPTS, groups, strict=True) for one in group
    ]


@pytest.mark.parametrize("architecture", parametrized())
def test_an_architecture_is_honoured_or_refused(architecture: str, tmp_path: Path):
    if architecture not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        pytest.skip("this transformers does not have it")
    folder = checkpoint(architecture, tmp_path / "model")
    if words := reasons().get(architecture):
        with pytest.raises(ConfigError, match=words) as caught:
            drawn(Pretrained("x", str(folder), Plain()).load())
        assert "\n" not in str(caught.value)
        return
    loaded = Pretrained("x", str(folder), Plain()).load()
    assert is_packed(loaded.model) == (architecture in PACKED)
    samples = drawn(loaded)
    with torch.no_grad():
        packed = Policy(loaded.model, 1.0)(pack([row for row, _ in samples])).logprobs
    other = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    spread, tolerance = [], ROUGHER.get(architecture, TOLERANCE)
    for place, (row, completion) in enumerate(samples):
        expected = plain(other, row)
        spread.append(expected)
        torch.testing.assert_close(completion.logprobs, expected, rtol=0, atol=tolerance)
        trained = packed[place, row.prompt_length : len(row.token_ids)]
        torch.testing.assert_close(trained, expected, rtol=0, atol=tolerance)
    assert torch.cat(spread).std() > 0.5, "weights are too small to show a mistake"
