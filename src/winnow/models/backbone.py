"""Forward passes over rows: hidden states or logits at the tokens that predict a response token, and at no others.

Also the checks and settings of a model that decide how it runs: packed attention, a plain linear head, gradient
checkpointing, compilation, and the type of master weights.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from winnow.errors import ConfigError
from winnow.models.attention import PACKED, Attend, EachTokenOnce, is_packed, packed_attention
from winnow.models.logprobs import logit_scores
from winnow.models.probe import agree, alone, probe_rows
from winnow.packed import Packed, pack


def hidden_states(backbone: PreTrainedModel, rows: Packed) -> Float[Tensor, "r h"]:
    """The hidden state from which each response token is predicted, by a packed or else by a right-padded forward."""
    hidden = backbone(**_inputs(backbone, rows)).last_hidden_state
    return hidden[0].index_select(0, rows.sources) if is_packed(backbone) else hidden[rows.response[:, 1:]]


def logits(model: PreTrainedModel, rows: Packed, attend: Attend | None = None) -> Float[Tensor, "r v"]:
    """The logits of the model's own output layer for each response token."""
    if is_packed(model):
        return model(**_inputs(model, rows, attend), logits_to_keep=rows.sources).logits[0]
    return model(**_inputs(model, rows)).logits[rows.response[:, 1:]]


def _inputs(model: PreTrainedModel, rows: Packed, attend: Attend | None = None) -> dict[str, Any]:
    """Keyword arguments of a forward over `rows`.

    Causal attention needs no mask for padding on the right, and `use_cache=False` keeps transformers from building one.
    """
    if not is_packed(model):
        return {"input_ids": rows.padded(), "use_cache": False}
    return {
        "input_ids": rows.tokens,
        "position_ids": rows.positions,
        "attend": attend or packed_attention(rows),
        "use_cache": False,
    }


def pack_where_exact(model: PreTrainedModel, expected: Float[Tensor, " r"] | None = None) -> None:
    """Switch `model` to packed attention if its log-probabilities stay the same; otherwise leave its own in place.

    `expected` are those of `probe.probe_rows`, one row at a time, by default under the model's present attention.
    """
    # A cache layer that drops keys belongs to a sliding window, of which some models inform only their masks.
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=model.config).layers):
        return
    before, rows = model.config._attn_implementation or "eager", pack(probe_rows(model)).to(model.device)
    attend = EachTokenOnce(rows)
    expected = alone(model, probe_rows(model)) if expected is None else expected
    with torch.no_grad():
        model.set_attn_implementation(PACKED)
        try:
            found, _ = logit_scores(logits(model, rows, attend), rows.targets, 1.0)
            # A layer that mixes tokens by other means, such as a convolution, also mixes rows, which in a new model
            # with its small weights may be too little to detect.
            everywhere = attend.calls == model.config.get_text_config().num_hidden_layers
            exact = is_packed(model) and everywhere and agree(found, expected)
        except (NotImplementedError, TypeError, ValueError):  # raised by models that cannot use this attention
            exact = False
    if not exact:
        model.set_attn_implementation(before)


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the logits are a single linear map of the hidden states."""
    head, backbone = model.get_output_embeddings(), model.base_model
    if type(head) is not nn.Linear or backbone is model:
        return False
    passed: list[tuple[Any, Any]] = []
    watch = head.register_forward_hook(lambda _module, given, output: passed.append((given[0], output)))
    try:
        with torch.no_grad():
            inputs = _inputs(model, pack(probe_rows(model)).to(head.weight.device))
            said, hidden = model(**inputs).logits, backbone(**inputs).last_hidden_state
    finally:
        watch.remove()
    given, output = passed[-1]
    # Compared exactly, because a soft cap changes the small logits of a new model by less than any tolerance.
    return torch.equal(given, hidden) and torch.equal(output.to(said.dtype), said)


def enable_gradient_checkpointing(*models: PreTrainedModel, checked: PreTrainedModel | None = None) -> None:
    """Gradient checkpointing: store each block's input and recompute the block in backward.

    Gradients are the same, for less memory and more time. The models are put into training mode, because transformers
    recomputes in that mode only and loads models in evaluation mode. Dropout is 0 in every layer that names it so.
    Where the models have no weights yet, `checked` is one of their kind that has.

    Raises:
        ConfigError: a model does not support it, or computes something else in training mode.
    """
    for model in models:
        if not model.supports_gradient_checkpointing:
            raise ConfigError(
                f"hardware.gradient_checkpointing=true: {type(model).__name__} does not support it; "
                "type hardware.gradient_checkpointing=false"
            )
        probed = checked or model
        tokens = torch.tensor([probe_rows(probed)[0].token_ids], device=probed.device)
        with torch.no_grad():  # the first output: logits, or a backbone's hidden states
            evaluated = probed.eval()(input_ids=tokens, use_cache=False)[0]
            trained = probed.train()(input_ids=tokens, use_cache=False)[0]
        if not agree(trained, evaluated):
            raise ConfigError(
                f"hardware.gradient_checkpointing=true: {type(model).__name__} draws at random in training mode; "
                "type hardware.gradient_checkpointing=false"
            )
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})


def compile_blocks(*models: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile each block, which fuses its small operations; one compilation serves all blocks and numbers of tokens.

    Attention is left out, because it receives its rows as objects, which the compiler would have to guard.

    Raises:
        ConfigError: a model has no blocks that transformers marks as such.
    """
    for model in models:
        blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not blocks:
            raise ConfigError(
                f"hardware.compile=true: {type(model).__name__} has no blocks to compile; type hardware.compile=false"
            )
        for block in blocks:
            block.compile(dynamic=True, backend=backend)


def require_masters(module: nn.Module, dtype: torch.dtype) -> None:
    """Check that every trained weight is of `dtype`, float32 or float64; for bfloat16 products autocast makes copies.

    In bfloat16 (8 bits of mantissa) an update of less than 1/256 of a weight is lost in rounding, which at a learning
    rate of 1e-6 is nearly every update.

    Raises:
        RuntimeError: names the first trained weight of another type.
    """
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.dtype != dtype:
            raise RuntimeError(f"{name} is trained in {_words(parameter.dtype)}, not in {_words(dtype)}")


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
