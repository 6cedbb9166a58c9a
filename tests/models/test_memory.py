"""Memory estimate, against bytes computed by hand for the paper's models."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, Qwen2Config

from winnow.models.language_model import FreshTiny, LanguageModel
from winnow.models.lora import Lora
from winnow.models.memory import MemoryPlan, ModelShape, cache_per_token, estimate, rows_that_fit, shape_of
from winnow.models.templates import Plain, Template

# config.json of Qwen/Qwen2.5-Math-1.5B and -7B on the hub.
SMALL = Qwen2Config(
    vocab_size=151936,
    hidden_size=1536,
    intermediate_size=8960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
LARGE = Qwen2Config(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)
PLAN = MemoryPlan(
    rows=256,
    samples=4,
    prompt_tokens=1024,
    response_tokens=3072,
    batch_rows=1024,
    token_budget=16384,
    precision="bf16-mixed",
    logits_at_once=2**27,
    recompute=True,
    reference=True,
)
H100 = 79.6e9


@dataclass(frozen=True)
class Configured:
    """A model source with a configuration and neither weights nor tokenizer."""

    shape: PreTrainedConfig
    lora: Lora | None = None
    name: str = "configured"
    template: Template = field(default_factory=Plain)

    def config(self) -> PreTrainedConfig:
        return self.shape

    def tokenizer(self) -> PreTrainedTokenizerBase:
        raise AssertionError("the tokenizer was loaded")

    def load(self, attention: str | None = None) -> LanguageModel:
        raise AssertionError("weights were loaded")


@pytest.fixture(scope="module")
def small() -> ModelShape:
    return shape_of(Configured(SMALL))


@pytest.fixture(scope="module")
def large() -> ModelShape:
    return shape_of(Configured(LARGE))


def test_shapes_are_the_published_ones(small: ModelShape, large: ModelShape):
    """The hub states 1.54 and 7.62 billion parameters."""
    assert (small.parameters, large.parameters) == (1_543_714_304, 7_615_616_512)
    assert small.trainable == small.backbone == small.parameters  # the output layer is the embedding
    assert large.backbone == large.parameters - 152064 * 3584
    assert (small.kv_width, large.kv_width) == (2 * 128, 4 * 128)


def test_lora_leaves_little_to_train():
    """Rank 16 on the seven linear layers of a block: 16 · (inputs + outputs) each."""
    shape = shape_of(Configured(SMALL, Lora(16, 32, "all-linear")))
    block = 16 * (2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960))
    assert shape.trainable == 28 * block == 18_464_768
    assert shape.parameters == 1_543_714_304 + shape.trainable
    found = estimate(shape, PLAN)
    assert (found.gradients, found.optimiser) == (4 * shape.trainable, 8 * shape.trainable)


def test_what_is_held_all_the_time(small: ModelShape):
    found = estimate(small, PLAN)
    p = 1_543_714_304
    assert found.weights == 4 * p + 4 * p + 2 * p  # masters, reference, autocast's copies
    assert (found.gradients, found.optimiser) == (4 * p, 8 * p)
    alone = estimate(small, replace(PLAN, reference=False, precision="32-true"))
    assert alone.held == 16 * p  # the well-known 16 bytes a parameter
    exact = estimate(small, replace(PLAN, reference=False, precision="64-true"))
    assert exact.held == 2 * alone.held
    # All that differs between the two is the width of a number.
    for part in ("sampling", "logits", "activations", "step"):
        assert getattr(exact, part) == pytest.approx(2 * getattr(alone, part)), part
    with_critic = estimate(small, replace(PLAN, critic=True))
    assert with_critic.held - found.held == (4 + 2 + 4 + 8) * p


def test_the_cache_of_a_token(small: ModelShape, large: ModelShape):
    """28 layers with 2 × 128 (or 4 × 128) keys and as many values."""
    assert (cache_per_token(small, "32-true"), cache_per_token(large, "32-true")) == (57_344, 114_688)
    assert (cache_per_token(small, "bf16-mixed"), cache_per_token(large, "bf16-mixed")) == (28_672, 57_344)
    assert (cache_per_token(small, "64-true"), cache_per_token(large, "64-true")) == (114_688, 229_376)


def test_a_micro_batch(small: ModelShape):
    found = estimate(small, PLAN)
    assert found.logits == 2**27 * 10 + 4 * 151936 * 1536
    repeated = 4 * 4096 / (1024 + 4 * 3072)  # four rows of 4,096 whose prompt is computed once
    block = 32 * 1536 + 4 * 256 + 8 * 8960 + (repeated - 1) * 2 * 2 * (1536 + 256)
    assert found.activations == pytest.approx(16384 * (28 * 4 * 1536 + block))
    plain = estimate(small, replace(PLAN, recompute=False, entropies=True))
    assert plain.activations == pytest.approx(16384 * 28 * block)
    assert plain.logits == 2**27 * 16 + 4 * 151936 * 1536


def test_a_micro_batch_is_no_longer_than_its_batch_and_no_shorter_than_a_row():
    assert PLAN.micro_batch == 16384
    assert replace(PLAN, batch_rows=2).micro_batch == 2 * 4096
    assert replace(PLAN, token_budget=100).micro_batch == 4096


def test_rows_that_fit_fill_what_is_left(small: ModelShape, large: ModelShape):
    row = 4096 * 28_672 * 17 / 16 + 28 * 151936 + 1024 * 3 * 4 * 8960 / 4
    left = 0.93 * H100 - 22 * 1_543_714_304
    assert rows_that_fit(small, PLAN, H100) == int(left / row) == 255
    assert rows_that_fit(large, PLAN, H100) == 0


def test_the_line_shows_whether_the_run_fits_and_what_to_type(small: ModelShape, large: ModelShape):
    def line(shape: ModelShape, available: float = H100, **changes: Any) -> str:
        return estimate(shape, replace(PLAN, **changes)).line(available)

    assert line(small, rows=64, token_budget=8192) == (
        "memory: 44.0 of 79.6 GB (weights 15.4, gradients 6.2, AdamW 12.3, and one at a time: KV cache 10.0, "
        "logits 2.3 + activations 2.4, AdamW's step 6.2): fits"
    )
    assert line(small).endswith("does not fit; type engine.max_rows=255")
    assert line(small, rows=64, token_budget=65536, available=50e9).endswith(
        "does not fit; type hardware.token_budget=34560"
    )
    assert line(small, rows=64, recompute=False, token_budget=4096, available=50e9).endswith(
        "does not fit; type hardware.gradient_checkpointing=true"
    )
    assert line(large).endswith("does not fit; type model/lora=adapter, or choose a smaller model")
    adapted = shape_of(Configured(LARGE, Lora(16, 32, "all-linear")))
    assert ": fits" in line(adapted, rows=16, reference=False, token_budget=4096)


def test_the_embedded_shape_is_counted_as_it_is_loaded():
    source = FreshTiny("x", Plain(), 0, layers=2, width=16, heads=2, kv_heads=1, intermediate=32, positions=128)
    assert shape_of(source).parameters == sum(p.numel() for p in source.load().model.parameters())
