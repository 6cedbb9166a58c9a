"""Packed and right-padded forwards give the scores and gradients of each row alone under transformers' own
attention."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MiniCPM3Config,
    MiniCPM3ForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from engines.models import STYLES, VOCAB, tiny
from winnow.assemble.start_lines import slow_path_notices
from winnow.models.attention import PACKED, is_packed
from winnow.models.backbone import has_plain_head, pack_where_exact
from winnow.models.export import export_model
from winnow.models.language_model import Pretrained
from winnow.models.lora import Lora
from winnow.models.policy import Critic, Policy
from winnow.models.templates import Plain
from winnow.packed import pack
from winnow.types import Row

from .checkpoints import qwen

TEMPERATURE = 0.7
PACKABLE = ["qwen2", "llama", "gpt2"]
"""The remaining style has a sliding window."""


def rows(*lengths: tuple[int, int], prompts: int | None = None) -> list[Row]:
    """Rows of these prompt and response lengths; prompts are beginnings of at most `prompts` different ones."""
    draw = random.Random(0)
    given = [tuple(draw.randrange(VOCAB) for _ in range(20)) for _ in range(prompts or len(lengths))]
    return [
        Row(given[i % len(given)][:prompt] + tuple(draw.randrange(VOCAB) for _ in range(response)), prompt)
        for i, (prompt, response) in enumerate(lengths)
    ]


CASES = {
    "ragged": rows((3, 5), (7, 2), (1, 9), (4, 4)),
    "shared prompts": rows((5, 3), (4, 6), (5, 8), (4, 1), (5, 2), (4, 7), prompts=2),
    "one row": rows((4, 5)),
    "one prompt token": rows((1, 6), (1, 3), (1, 4), prompts=1),
    "one response token": rows((5, 1), (2, 1), (5, 1), prompts=2),
    "one token after one": rows((1, 1)),
    "several blocks": rows((6, 20), (6, 18), (6, 9), (6, 8), (2, 3), (2, 1), prompts=2),
    "several blocks, shuffled": [
        rows((6, 20), (6, 18), (6, 9), (6, 8), (2, 3), (2, 1), prompts=2)[i] for i in (4, 0, 3, 5, 1, 2)
    ],
}


def policy(style: str, packed: bool, dtype: torch.dtype = torch.float32) -> Policy:
    model = tiny(style, dtype).eval()
    if packed:
        pack_where_exact(model)
        assert is_packed(model)
    return Policy(model, TEMPERATURE)


def alone(model: PreTrainedModel, row: Row, temperature: float = TEMPERATURE) -> tuple[Tensor, Tensor]:
    """(S,) log-probabilities and entropies by one forward over the whole row, zero on the prompt."""
    logits = model(input_ids=torch.tensor([row.token_ids]), use_cache=False).logits[0, row.prompt_length - 1 : -1]
    logs = (logits / temperature).log_softmax(-1)
    picked = logs.gather(1, torch.tensor(row.token_ids[row.prompt_length :])[:, None]).squeeze(1)
    nothing = picked.new_zeros(row.prompt_length)
    return torch.cat([nothing, picked]), torch.cat([nothing, -(logs.exp() * logs).sum(-1)])


def test_the_cases_have_the_blocks_that_their_names_say() -> None:
    assert len(pack(CASES["several blocks"]).blocks) == 4
    assert len(pack(CASES["several blocks, shuffled"]).blocks) == 5
    for case in CASES.values():
        prompts = {row.token_ids[: row.prompt_length] for row in case}
        tokens = sum(map(len, prompts)) + sum(row.response_length for row in case) - len(case)
        assert pack(case).tokens.shape == (1, tokens)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("style", "packed"), [*((s, False) for s in STYLES), *((s, True) for s in PACKABLE)])
def test_scores_of_rows_together_are_those_of_each_row_alone(style: str, case: str, packed: bool) -> None:
    with torch.no_grad():
        found = policy(style, packed)(pack(CASES[case]), entropies=True)
        expected = [alone(tiny(style).eval(), row) for row in CASES[case]]
    assert found.entropies is not None
    for kind, numbers in enumerate((found.logprobs, found.entropies)):
        for i, row in enumerate(CASES[case]):
            length = len(row.token_ids)
            torch.testing.assert_close(numbers[i, :length], expected[i][kind], rtol=0, atol=1e-5)
            assert not numbers[i, length:].any()


def slopes(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def loss(logprobs: Sequence[Tensor], entropies: Sequence[Tensor]) -> Tensor:
    """A loss in which every token has a weight of its own, so that no token can be mistaken for another."""
    numbers = [
        (torch.arange(len(a)) * (i + 1) * (a.sin() + b)).sum()
        for i, (a, b) in enumerate(zip(logprobs, entropies, strict=True))
    ]
    return torch.stack(numbers).sum()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_rows_together_are_those_of_each_row_alone(case: str, packed: bool) -> None:
    """With GPT-2, which computes everything in float64."""
    together, model = policy("gpt2", packed, torch.float64), tiny("gpt2", torch.float64).eval()
    found = together(pack(CASES[case]), entropies=True)
    assert found.entropies is not None
    cut = [len(row.token_ids) for row in CASES[case]]
    loss(*([numbers[i, :n] for i, n in enumerate(cut)] for numbers in (found.logprobs, found.entropies))).backward()
    logprobs, entropies = zip(*(alone(model, row) for row in CASES[case]), strict=True)
    loss(logprobs, entropies).backward()
    ours, theirs = slopes(together.model), slopes(model)
    assert ours.keys() == theirs.keys()
    for name, slope in ours.items():
        torch.testing.assert_close(slope, theirs[name], rtol=1e-12, atol=1e-9)
    assert max(float(slope.abs().max()) for slope in ours.values()) > 1


@pytest.mark.parametrize("style", PACKABLE)
def test_a_value_is_the_same_packed_and_padded(style: str) -> None:
    found = []
    for packed in (True, False):
        critic = Critic(policy(style, packed).model)
        torch.manual_seed(0)
        torch.nn.init.normal_(critic.head.weight)
        assert is_packed(critic.backbone) == packed
        found.append(critic(pack(CASES["shared prompts"])))
    assert found[0].abs().max() > 0.1
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


def test_a_packed_forward_computes_each_token_once() -> None:
    """9 prompt and 27 response tokens less the last of each of 6 rows, against 6 padded rows of 12."""
    for packed, shape in ((True, (1, 30)), (False, (6, 12))):
        one = policy("llama", packed)
        seen: list[tuple[int, ...]] = []
        one.model.base_model.register_forward_pre_hook(
            lambda _module, _args, call, seen=seen: seen.append(tuple(call["input_ids"].shape)), with_kwargs=True
        )
        one(pack(CASES["shared prompts"]))
        assert seen == [shape]


_SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
OTHERS = {
    "bloom": lambda **changes: BloomForCausalLM(
        BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, **changes)
    ),
    "gemma2": lambda **changes: Gemma2ForCausalLM(Gemma2Config(**(_SMALL | {"head_dim": 8} | changes))),
    "lfm2": lambda **changes: Lfm2ForCausalLM(
        Lfm2Config(**(_SMALL | {"layer_types": ["conv", "full_attention"]} | changes))
    ),
    "qwen2_moe": lambda **changes: Qwen2MoeForCausalLM(
        Qwen2MoeConfig(
            **(
                _SMALL
                | {
                    "use_sliding_window": True,
                    "sliding_window": 8,
                    "max_window_layers": 2,
                    "num_experts": 2,
                    "num_experts_per_tok": 1,
                }
                | changes
            )
        )
    ),
    "minicpm3": lambda **changes: MiniCPM3ForCausalLM(
        MiniCPM3Config(**(_SMALL | {"num_key_value_heads": 4, "dim_model_base": 8} | changes))
    ),
    "cohere": lambda **changes: CohereForCausalLM(CohereConfig(**(_SMALL | changes))),
    "granite": lambda **changes: GraniteForCausalLM(GraniteConfig(**(_SMALL | {"logits_scaling": 8.0} | changes))),
}


def other(name: str, **changes: Any) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return OTHERS[name](**changes).eval()


@pytest.mark.parametrize("scale", [0.02, 0.3])
@pytest.mark.parametrize(
    "name",
    # a window, a bias by distance, a cap on scores, a convolution, a window that only the mask has
    ["qwen2_sliding", "bloom", "gemma2", "lfm2", "qwen2_moe"],
)
def test_a_model_that_packing_would_change_keeps_its_own_attention(name: str, scale: float) -> None:
    """Also with the small weights of a new model, which hardly distinguishes tokens."""
    make = tiny if name in STYLES else other
    model = make(name, initializer_range=scale).eval()
    before = model.config._attn_implementation
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        said = model(tokens, use_cache=False).logits
        pack_where_exact(model)
        assert model.config._attn_implementation == before != PACKED
        assert torch.equal(model(tokens, use_cache=False).logits, said)


def test_dropout_in_attention_is_not_packed() -> None:
    model = tiny("gpt2").train()
    pack_where_exact(model)
    assert not is_packed(model)


@pytest.mark.parametrize("style", STYLES)
def test_most_heads_are_one_linear_map(style: str) -> None:
    assert has_plain_head(tiny(style).eval())


def test_a_cap_is_detected_even_if_logits_are_small() -> None:
    assert not has_plain_head(other("gemma2", initializer_range=0.02))


@pytest.mark.parametrize(
    "name",
    ["gemma2", "cohere", "granite", "minicpm3"],  # a cap on logits, a factor, a divisor, a divisor of what goes in
)
def test_a_head_that_is_not_one_linear_map_is_left_to_the_model(name: str) -> None:
    model = other(name, initializer_range=0.3)
    before = other(name, initializer_range=0.3)
    pack_where_exact(model)
    found = Policy(model, TEMPERATURE)
    assert not found.plain_head
    case = CASES["shared prompts"]
    with torch.no_grad():
        scores = found(pack(case), entropies=True)
        for i, row in enumerate(case):
            logprobs, entropies = alone(before, row)
            assert scores.entropies is not None
            torch.testing.assert_close(scores.logprobs[i, : len(logprobs)], logprobs, rtol=0, atol=1e-5)
            torch.testing.assert_close(scores.entropies[i, : len(logprobs)], entropies, rtol=0, atol=1e-5)


def test_slow_paths_of_a_model_are_reported_at_start_up() -> None:
    def said(model: PreTrainedModel, attention: str = "auto") -> list[str]:
        pack_where_exact(model)
        return slow_path_notices(OmegaConf.create({"hardware": {"attention": attention}}), Policy(model, 1.0))

    assert said(tiny("llama").eval()) == []
    assert [line.split()[0] for line in said(tiny("qwen2_sliding").eval())] == ["Qwen2ForCausalLM"]
    assert said(tiny("qwen2_sliding").eval(), "sdpa") == []  # that is what was asked for
    assert len(said(other("gemma2"))) == 2


def test_adapters_learn_the_same_packed_and_padded(tmp_path: Path) -> None:
    source = Pretrained("x", str(qwen(tmp_path / "checkpoint")), Plain(), Lora(4, 8, "all-linear"))
    found = []
    for attention in (None, "sdpa"):
        loaded = source.load(attention)
        assert is_packed(loaded.model) == (attention is None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name, p in loaded.model.named_parameters():
                if "lora_B" in name:  # zero at first, and A would have no gradient
                    torch.nn.init.normal_(p, std=0.1)
        Policy(loaded.model, 1.0)(pack(CASES["several blocks"])).logprobs.sum().backward()
        found.append(slopes(loaded.model))
    assert found[0].keys() == found[1].keys()
    assert all(".lora_" in name for name in found[0])
    for name, slope in found[0].items():
        torch.testing.assert_close(slope, found[1][name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapted", [False, True])
def test_an_export_does_not_mention_packed_attention(adapted: bool, tmp_path: Path) -> None:
    lora = Lora(4, 8, "all-linear") if adapted else None
    loaded = Pretrained("x", str(qwen(tmp_path / "checkpoint")), Plain(), lora).load()
    assert is_packed(loaded.model)
    export_model(loaded, tmp_path / "export", "card")
    for file in (tmp_path / "export").rglob("*.json"):
        assert "winnow" not in file.read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert again.config._attn_implementation == "sdpa"
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, loaded.model(tokens).logits, rtol=0, atol=1e-5)
