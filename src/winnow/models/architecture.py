"""The attention of an architecture: computed as the architecture defines it, or refused in one line.

Transformers has several implementations of attention, and those other than `eager` ignore arguments that they do not
know: `sdpa` computes Gemma 2 without its cap on attention scores and says nothing. `settle_attention` therefore holds
the implementation that a model was loaded with against the model's eager attention, one row at a time.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from winnow.errors import ConfigError
from winnow.models.attention import FLASH, causal, is_packed
from winnow.models.backbone import logits, pack_where_exact
from winnow.models.logprobs import logit_scores
from winnow.models.probe import agree, alone, probe_rows
from winnow.packed import pack

EAGER = "eager"
"""Transformers' plain matrix products: the implementation in which each architecture writes its attention out."""
_WATCHED = "winnow_watched"
_NOT_CAUSAL = "model: in {} a token sees later tokens, or other rows; choose a decoder (Qwen, Llama, …)"


def settle_attention(model: PreTrainedModel, wanted: str | None) -> None:
    """Leave `model` with an attention that gives the log-probabilities of the architecture's own.

    `wanted` is the implementation that the user asked for. None stands for packed attention where it is exact, else for
    the implementation that the model was loaded with, else for eager attention.

    Raises:
        ConfigError: the wanted implementation leaves out a part of the attention; transformers' implementations
            contradict each other; the log-probabilities are not finite; or a token sees later ones.
    """
    loaded, rows = model.config._attn_implementation or EAGER, probe_rows(model)
    name = type(model).__name__
    with attention_as(model, EAGER):
        eager = alone(model, rows)
        if sees_later_tokens(model):
            raise ConfigError(_NOT_CAUSAL.format(name))
    if not eager.isfinite().all():
        raise ConfigError(f"model: the log-probabilities of {name} are not finite; its weights are damaged")
    if wanted is None:
        pack_where_exact(model, eager)
        if is_packed(model):
            return
    left_out = _left_out(model, loaded)
    if left_out and wanted is not None:
        raise ConfigError(
            f"hardware.attention={wanted}: the attention of {name} has {' and '.join(left_out)}, which {wanted} "
            f"leaves out; type hardware.attention=auto, or hardware.attention={EAGER}"
        )
    if left_out:
        _set_attention(model, EAGER)
    if wanted == FLASH:  # it cannot run before the model is on its GPU
        return
    own = alone(model, rows)
    if wanted is None and not agree(own, eager):
        gap = float((own - eager).abs().max())
        raise ConfigError(
            f"model: transformers' own implementations of {name}'s attention, {loaded} and {EAGER}, are {gap:.2g} nats "
            f"apart, so that none can be relied on; type hardware.attention={loaded} or hardware.attention={EAGER}"
        )
    _require_causal(model, own)


def _require_causal(model: PreTrainedModel, expected: Tensor) -> None:
    """Refuse a model whose rows depend on what follows them, be it their later tokens or the padding on their right."""
    rows = pack(probe_rows(model)).to(model.device)
    with torch.no_grad():
        found, _ = logit_scores(logits(model, rows), rows.targets, 1.0)
    if not agree(found, expected):
        raise ConfigError(_NOT_CAUSAL.format(type(model).__name__))


def sees_later_tokens(model: PreTrainedModel) -> bool:
    """Whether the logits of a token have a gradient with respect to a later token's embedding, as those of an encoder.

    In a new model with its small weights the difference that a later token makes is within any tolerance, but its
    gradient is 0 in a decoder alone, exactly. False where there is no such gradient to compute, or where it is not
    finite: a new model's padding token has an embedding of zeros, from which two dozen norms overflow.
    """
    ids = torch.tensor([probe_rows(model)[0].token_ids], device=model.device)
    embedded: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    middle, watch = ids.shape[1] // 2, model.get_input_embeddings().register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits_of_middle = model(input_ids=ids, use_cache=False).logits[0, middle]
            (gradient,) = torch.autograd.grad(logits_of_middle.float().sum(), embedded[-1:], allow_unused=True)
    except (RuntimeError, IndexError):  # embeddings that are not a module's output, or a forward without a gradient
        return False
    finally:
        watch.remove()
    if gradient is None or gradient.dim() != 3:
        return False
    later = gradient[0, middle + 1 :]
    return bool(later.isfinite().all()) and bool(later.any())


def _left_out(model: PreTrainedModel, implementation: str) -> list[str]:
    """The arguments that layers pass to their attention and that `implementation` ignores, but eager attention uses."""
    if implementation not in ALL_ATTENTION_FUNCTIONS:
        return []
    taken = inspect.signature(ALL_ATTENTION_FUNCTIONS[implementation]).parameters
    missed: set[str] = set()

    def watching(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
    ) -> tuple[Tensor, None]:
        eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        used = {} if eager is None else inspect.signature(eager).parameters
        missed.update(k for k, v in more.items() if v is not None and k in used and k not in taken)
        return causal(query, key, value, more.get("scaling")), None

    AttentionInterface.register(_WATCHED, watching)
    # A model that this attention does not suit is judged by its log-probabilities alone.
    with suppress(ConfigError, ValueError), attention_as(model, _WATCHED):
        alone(model, probe_rows(model)[:1])
    return sorted(missed)


@contextmanager
def attention_as(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Context in which the model has another implementation of attention."""
    before = model.config._attn_implementation or EAGER
    try:
        _set_attention(model, implementation)
        yield
    finally:
        _set_attention(model, before)


def _set_attention(model: PreTrainedModel, implementation: str) -> None:
    """Change the implementation also where transformers would only warn: in models that look it up themselves."""
    if model._can_set_attn_implementation():
        model.set_attn_implementation(implementation)
    elif implementation != _WATCHED:
        model.config._attn_implementation = implementation
