"""Shapes in conf/model, against the models that transformers builds from the same sizes, and against arithmetic."""

from dataclasses import replace

import pytest
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config

from winnow.config.compose import composed
from winnow.config.nodes import build_node
from winnow.errors import ConfigError
from winnow.models.lora import Lora
from winnow.models.memory import MemoryPlan, estimate, shape_of
from winnow.models.shape import Adapters, DecoderShape
from winnow.models.templates import Plain

from .test_memory import PLAN, Configured

PUBLISHED = {"qwen": 1_543_714_304, "qwen_7b": 7_615_616_512, "llama": 3_212_749_824, "smollm": 134_515_008}
"""Parameters that the models' pages on the hub state: 1.54, 7.62, 3.21 and 0.135 billion."""


def shape(model: str) -> DecoderShape:
    return build_node(composed("train", [f"model={model}"], ()).model.shape)


def config(of: DecoderShape) -> PreTrainedConfig:
    kind = Qwen2Config if of.biases else LlamaConfig
    return kind(
        vocab_size=of.vocabulary,
        hidden_size=of.width,
        intermediate_size=of.intermediate,
        num_hidden_layers=of.layers,
        num_attention_heads=of.heads,
        num_key_value_heads=of.kv_heads,
        head_dim=of.head_size,
        tie_word_embeddings=of.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


@pytest.mark.parametrize("model", PUBLISHED)
def test_counts_are_those_of_the_model_that_transformers_builds(model: str):
    of = shape(model)
    assert of.sizes().parameters == PUBLISHED[model]
    assert of.sizes() == shape_of(Configured(config(of)))
    adapted = shape_of(Configured(config(of), Lora(16, 32, "all-linear")))
    assert of.sizes(Adapters(16, "all-linear")) == adapted


def test_adapters_on_some_layers():
    of = shape("qwen")
    some = shape_of(Configured(config(of), Lora(8, 16, ["q_proj", "v_proj"])))
    assert of.sizes(Adapters(8, ["q_proj", "v_proj"])) == some
    with pytest.raises(ConfigError, match="none of q_proj"):
        of.sizes(Adapters(8, "c_attn"))


def test_the_embedded_model_has_the_shape_of_its_yaml():
    source = build_node(composed("train", [], ("model",)).model)
    loaded = source.load().model
    assert source.shape.sizes() == shape_of(source)
    assert source.shape.sizes().parameters == sum(p.numel() for p in loaded.parameters())
    assert source.shape.positions == loaded.config.max_position_embeddings


def test_a_shape_that_is_not_the_models_is_refused():
    with pytest.raises(ConfigError, match=r"model\.shape\.layers=5: the model at embedded has 3"):
        build_node(composed("train", ["model.shape.layers=5"], ("model",)).model).config()


def test_the_shape_of_another_path_is_not_compared():
    source = build_node(composed("train", [], ("model",)).model)
    assert replace(source, shape=replace(shape("qwen"), of="elsewhere"), template=Plain()).config() is not None


def held(of: DecoderShape, **changes: object) -> float:
    plan = replace(PLAN, precision="32-true", reference=False, recompute=True, **changes)
    found = estimate(of.sizes(), plan)
    return found.masters + found.gradients + found.optimiser


def test_sixteen_bytes_a_parameter_divided_by_the_processes_of_fsdp():
    """7.6 billion parameters × 16 bytes = 122 GB; ÷ 8 = 15.2 GB."""
    of = shape("qwen_7b")
    assert held(of) == 16 * 7_615_616_512 == pytest.approx(122e9, rel=0.002)
    assert held(of, shards=8) == held(of) / 8 == pytest.approx(15.2e9, rel=0.003)
    assert held(of, shards=8, offload=True) == 0
    assert held(of, buckets=True) == 20 * 7_615_616_512  # DDP sums gradients in buckets of the same size


def test_what_fsdp_has_whole_at_a_time():
    """A block of Qwen2.5-Math-7B has 233 million parameters; outside of the blocks are two tables of 545 million."""
    of = shape("qwen_7b")
    sizes = of.sizes()
    queries, keys = 28 * 128, 4 * 128
    block = 3584 * (2 * queries + 2 * keys) + queries + 2 * keys + 3 * 3584 * 18944 + 2 * 3584
    assert sizes.block == pytest.approx(block + 3584 / 28)  # and a share of the last norm
    plan: MemoryPlan = replace(PLAN, shards=8, reference=False)
    found = estimate(sizes, plan)
    assert found.products == pytest.approx(2 * (sizes.outside + 2 * sizes.block) + 4 * sizes.block)
    assert found.gathered == 2 * 7_615_616_512  # a copy in bfloat16 is sampled from
    assert estimate(sizes, replace(plan, rows=0)).gathered == 0
