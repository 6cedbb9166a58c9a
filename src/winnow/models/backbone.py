"""One forward over rows: hidden states or logits at the tokens that predict something, and nowhere else."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from winnow.errors import ConfigError
from winnow.models.attention import PACKED, Attend, EachTokenOnce, is_packed, packed_attention
from winnow.ops.logprobs import logit_scores
from winnow.packed import Packed, PromptedSequence, pack
from winnow.types import Row

TOLERANCE = 1e-3
"""Nats between two ways to compute a log-probability that are one in exact arithmetic: rounding in float32 is far below, a
token that saw another row's far above."""


def hidden_states(backbone: PreTrainedModel, rows: Packed) -> Float[Tensor, "r h"]:
    """What each response token is predicted from: of packed rows, each token once, or else of right-padded ones."""
    hidden = backbone(**_inputs(backbone, rows)).last_hidden_state
    return hidden[0].index_select(0, rows.sources) if is_packed(backbone) else hidden[rows.response[:, 1:]]


def logits(model: PreTrainedModel, rows: Packed, attend: Attend | None = None) -> Float[Tensor, "r v"]:
    """As the model's own output layer has them."""
    if is_packed(model):
        return model(**_inputs(model, rows, attend), logits_to_keep=rows.sources).logits[0]
    return model(**_inputs(model, rows)).logits[rows.response[:, 1:]]


def _inputs(model: PreTrainedModel, rows: Packed, attend: Attend | None = None) -> dict[str, Any]:
    """Causal attention needs no mask for filling on the right; `use_cache=False` keeps transformers from building one."""
    if not is_packed(model):
        return {"input_ids": rows.padded(), "use_cache": False}
    return {
        "input_ids": rows.tokens,
        "position_ids": rows.positions,
        "attend": attend or packed_attention(rows),
        "use_cache": False,
    }


def pack_where_exact(model: PreTrainedModel) -> None:
    """Give `model` our attention if it then says of packed rows what it says of padded ones; leave it its own otherwise."""
    # A layer that forgets keys has a window, which some models say to their masks alone.
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return
    before, rows = model.config._attn_implementation or "eager", _probe(model)
    attend = EachTokenOnce(rows)
    with torch.no_grad():
        expected, _ = logit_scores(logits(model, rows), rows.targets, 1.0)
        model.set_attn_implementation(PACKED)
        try:
            found, _ = logit_scores(logits(model, rows, attend), rows.targets, 1.0)
            # A layer that mixes tokens by other means, a convolution say, mixes rows, if too little to see in a new model.
            everywhere = attend.calls == model.config.get_text_config().num_hidden_layers
            exact = is_packed(model) and everywhere and _agree(found, expected)
        except (NotImplementedError, TypeError, ValueError):  # what other models say to an attention they cannot take
            exact = False
    if not exact:
        model.set_attn_implementation(before)


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether its logits are one linear map of its hidden states, and nothing more."""
    head, backbone = model.get_output_embeddings(), model.base_model
    if type(head) is not nn.Linear or backbone is model:
        return False
    passed: list[tuple[Any, Any]] = []
    watch = head.register_forward_hook(lambda _module, given, output: passed.append((given[0], output)))
    try:
        with torch.no_grad():
            inputs = _inputs(model, _probe(model).to(head.weight.device))
            said, hidden = model(**inputs).logits, backbone(**inputs).last_hidden_state
    finally:
        watch.remove()
    given, output = passed[-1]
    # To the last bit: of a new model's small logits a soft cap takes less than any tolerance.
    return torch.equal(given, hidden) and torch.equal(output.to(said.dtype), said)


def _agree(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TOLERANCE)


def _probe(model: PreTrainedModel) -> Packed:
    """Two responses to one prompt and one to a shorter one."""
    names = [i % model.config.get_text_config().vocab_size for i in range(11)]
    rows: list[PromptedSequence] = [
        Row((*names[:3], *names[3:7]), 3),
        Row((*names[:3], *names[7:9]), 3),
        Row((*names[9:11], *names[4:6]), 2),
    ]
    return pack(rows)


def enable_gradient_checkpointing(*models: PreTrainedModel) -> None:
    """Keep what goes into each block, and run the block again in backward: the same gradients, less memory, more time.

    Transformers recomputes in training mode only, and loads models for evaluation; there is no dropout to be turned on.
    """
    for model in models:
        if not model.supports_gradient_checkpointing:
            raise ConfigError(
                f"hardware.gradient_checkpointing=true: {type(model).__name__} has none; "
                "type hardware.gradient_checkpointing=false"
            )
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()


def compile_blocks(*models: PreTrainedModel, backend: str = "inductor") -> None:
    """Fuse the small operations of each block, for any number of tokens: all blocks share one compilation.

    Attention stays as it is: it is told of its rows by objects, which a compiler would have to guard.
    """
    for model in models:
        blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not blocks:
            raise ConfigError(
                f"hardware.compile=true: {type(model).__name__} has no blocks to compile; type hardware.compile=false"
            )
        for block in blocks:
            block.compile(dynamic=True, backend=backend)


def require_float32_masters(module: nn.Module) -> None:
    """Every trained weight is float32; autocast makes the bfloat16 copies that matrix products take.

    In bfloat16 (8 bits of mantissa) an update of less than 1/256 of a weight is rounded away, which at a learning rate of
    1e-6 is nearly every one.

    Raises:
        RuntimeError: the first weight that is something else.
    """
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise RuntimeError(f"{name} is trained in {str(parameter.dtype).removeprefix('torch.')}, not in float32")
