"""Work of the linear layers for three rows, counted by hand."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks import matmul
from benchmarks.matmul import SamplingWork, UpdateWork, sampling_work, update_work
from benchmarks.runs import SampledRow

ROWS = [SampledRow("a", 5, 3, True), SampledRow("a", 5, 1, True), SampledRow("b", 2, 2, True)]
"""Two completions of 3 tokens and 1 to a prompt of 5 tokens; one of 2 tokens to a prompt of 2."""


def config() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=11,
        hidden_size=4,
        intermediate_size=6,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )


BODY = 2 * (2 * 4 * 4 + 2 * 2 * 4 + 3 * 6 * 4)  # layers of q and o, k and v, gate, up and down
HEAD = 11 * 4


def test_the_body_is_all_layers_but_the_head():
    layers = matmul.linears_of(Qwen2ForCausalLM(config()))
    assert len(layers.body) == 14
    assert sum(layer.weight.numel() for layer in layers.body) == BODY
    assert layers.head.weight.shape == (11, 4)


def test_sampling_reads_prompts_once_and_feeds_all_but_the_last_token_of_a_row():
    """The prompts' forward gives the first tokens; then two rows are fed their first token, and one its second."""
    assert sampling_work(ROWS) == SamplingWork(prompts=2, prompt_tokens=7, live=[2, 1])


def test_an_update_counts_a_prompt_once():
    """Prompt a attends to 1 + … + 5 positions, its rows to 6 + 7 + 8 and to 6; prompt b to 1 + 2, its row to 3 + 4."""
    assert update_work(ROWS) == UpdateWork(tokens=5 + 2 + 6, responses=6, context=15 + 21 + 6 + 3 + 7)
    assert update_work([]) == UpdateWork(0, 0, 0)


def test_flops_of_an_update():
    """Three forwards, each of 2 per weight and token, and of 4 × 2 layers × width 4 per attended position."""
    layers = matmul.linears_of(Qwen2ForCausalLM(config()))
    work = UpdateWork(tokens=13, responses=6, context=52)
    assert matmul.update_flops(layers, config(), work) == 3 * (2 * (13 * BODY + 6 * HEAD) + 4 * 2 * 4 * 52)


def test_bytes_of_sampling():
    """Two steps read every weight. The rows are fed at contexts of 6 and 7 (first), never (second), and of 3 (third).

    A token caches 2 layers × 2 × width 2 numbers.
    """
    layers = matmul.linears_of(Qwen2ForCausalLM(config()))
    assert matmul.sampling_bytes(layers, config(), ROWS, item=2) == 2 * (2 * (BODY + HEAD) + 8 * (6 + 7 + 3))


@pytest.mark.parametrize(("tokens", "blocks"), [(0, []), (5, [5]), (2048, [2048]), (2049, [1024, 1025])])
def test_blocks(tokens: int, blocks: list[int]):
    assert matmul._blocks(tokens) == blocks


def test_the_bound_makes_the_products_and_no_others(monkeypatch: pytest.MonkeyPatch):
    """Numbers of rows of every product in order, with a body of one layer 4 → 6 and a head of 11."""
    asked: list[tuple[int, int]] = []
    real = matmul.linear

    def spy(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        asked.append((x.shape[0], weight.shape[0]))
        return real(x, weight, bias)

    monkeypatch.setattr(matmul, "linear", spy)
    layers = matmul.Linears([matmul.Layer(torch.randn(6, 4), None)], matmul.Layer(torch.randn(11, 4), None))
    assert matmul.sampling_bound(layers, sampling_work(ROWS)) >= 0
    assert asked == [(7, 6), (2, 11), (2, 6), (2, 11), (1, 6), (1, 11)]
    asked.clear()
    assert matmul.update_bound(layers, update_work(ROWS)) >= 0
    assert asked == [(13, 6), (6, 11)]
