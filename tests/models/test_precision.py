"""Operations in a model that leave float64, found by running it."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from small_gpt2 import small_gpt2
from winnow.models.backbone import pack_where_exact
from winnow.models.language_model import LanguageModel
from winnow.models.precision import modules_below_float64, new_tensors_in_float64


@pytest.mark.parametrize("packed", [True, False])
def test_gpt2_is_in_float64_throughout(packed: bool):
    model = small_gpt2().double()
    if packed:
        pack_where_exact(model)
    assert modules_below_float64(model) == []


def test_the_norms_and_rotations_of_qwen2_and_llama_are_not(small: LanguageModel):
    """Both take float64 and return it."""
    assert modules_below_float64(small.model) == ["Qwen2RMSNorm", "Qwen2RotaryEmbedding"]
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=20, hidden_size=16, intermediate_size=16, num_attention_heads=2))
    assert modules_below_float64(llama.double()) == ["LlamaRMSNorm", "LlamaRotaryEmbedding"]


class HalfInside(nn.Module):
    """Doubles its input by way of float16."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return (given.half() * 2).to(given.dtype)


def test_a_module_of_any_name_is_found_and_the_model_is_left_as_it_was():
    model = small_gpt2().double()
    model.transformer.h[1].mlp.act = HalfInside()
    assert modules_below_float64(model) == ["HalfInside"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.get_default_dtype() == torch.float32


def test_new_tensors_are_float64_in_the_context_alone_also_after_an_error():
    with new_tensors_in_float64():
        assert torch.zeros(1).dtype == torch.tensor([0.5]).dtype == torch.float64
    assert torch.zeros(1).dtype == torch.float32
    with pytest.raises(ZeroDivisionError), new_tensors_in_float64():
        raise ZeroDivisionError
    assert torch.zeros(1).dtype == torch.float32
