"""Log-probabilities and entropies of predicted tokens, from hidden states (chunk by chunk) or from logits.

`head_scores` fuses the output layer with the log-softmax, so that the (R, V) logits never exist all at once.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

LOGITS_AT_ONCE = {"cpu": 2**23, "cuda": 2**27}
"""Number of logits that `head_scores` holds at a time, by device type: 32 MiB in float32 on the CPU, and 512 MiB on a
GPU so that its matrix products stay large."""


def head_scores(
    hidden: Float[Tensor, "r h"],
    weight: Float[Tensor, "v h"],
    bias: Float[Tensor, " v"] | None,
    targets: Int[Tensor, " r"],
    temperature: float,
    entropies: bool = False,
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"] | None]:
    """log π(target) and, if `entropies`, the entropy in nats, of softmax((hidden · weightᵀ + bias) / temperature).

    R rows of hidden states, a vocabulary of V. Logits are computed for a chunk of rows at a time, and once more in
    backward, so that no (R, V) tensor exists. Under autocast, matrix products run in the autocast precision; the
    softmax and everything after it in float32 at least.
    """
    device = hidden.device.type
    # Read here and passed on, because backward computes the logits again and runs outside of the autocast context.
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    logprobs, found = _HeadScores.apply(  # pyright: ignore[reportGeneralTypeIssues]
        hidden, weight, bias, targets, temperature, entropies, low
    )
    return logprobs, found if entropies else None


def logit_scores(
    logits: Float[Tensor, "r v"], targets: Int[Tensor, " r"], temperature: float, entropies: bool = False
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"] | None]:
    """The same as `head_scores` from logits that exist, for models whose output layer is more than one linear map."""
    logs = (_at_least_float32(logits) / temperature).log_softmax(1)
    return _picked(logs, targets), -(logs.exp() * logs).sum(1) if entropies else None


class _HeadScores(torch.autograd.Function):
    """`head_scores` with a backward of its own, which recomputes each chunk's logits instead of keeping them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        entropies: bool,
        low: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.temperature, ctx.entropies, ctx.low = temperature, entropies, low
        logprobs = hidden.new_empty(len(hidden), dtype=torch.promote_types(low, torch.float32))
        entropy = torch.zeros_like(logprobs)
        with torch.autocast(hidden.device.type, enabled=False):
            h, w, b = _cast(low, hidden, weight, bias)
            for rows in _chunks(hidden, weight):
                logs = _scaled_logits(h[rows], w, b, temperature).log_softmax(1)
                logprobs[rows] = _picked(logs, targets[rows])
                if entropies:
                    entropy[rows] = -(logs.exp() * logs).sum(1)
        return logprobs, entropy

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor, grad_entropy: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        # Of weights in bfloat16, as FSDP2 gathers them, the sum over chunks is in float32 as in a product of matrices.
        wide = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=wide) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if wants_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            h, w, b = _cast(ctx.low, hidden, weight, bias)
            for rows in _chunks(hidden, weight):
                logits = _scaled_logits(h[rows], w, b, ctx.temperature)
                slope = _slope(logits, grad[rows], grad_entropy[rows] if ctx.entropies else None)
                slope.scatter_add_(1, targets[rows, None], grad[rows, None].to(slope.dtype))
                slope = slope.div_(ctx.temperature).to(ctx.low) if ctx.temperature != 1 else slope.to(ctx.low)
                if grad_hidden is not None:
                    grad_hidden[rows] = slope @ w
                if grad_weight is not None:
                    _accumulate(grad_weight, slope, h[rows])
                if grad_bias is not None:
                    grad_bias += slope.sum(0)
        return grad_hidden, *_cast(weight.dtype, grad_weight, grad_bias), None, None, None, None


def _slope(logits: Tensor, grad: Tensor, grad_entropy: Tensor | None) -> Tensor:
    """Derivative by the scaled logits z of grad · log p(target) + grad_entropy · H, where H = −Σ p log p.

    The `grad` that the target's own logit receives in addition is left to the caller.
    """
    if grad_entropy is None:
        return logits.softmax(1).mul_(-grad[:, None])
    logs = logits.log_softmax(1)
    probs = logs.exp()
    entropy = -(probs * logs).sum(1, keepdim=True)
    return probs.mul_(logs.add_(entropy).mul_(grad_entropy[:, None]).add_(grad[:, None]).neg_())


def _accumulate(total: Tensor, slope: Tensor, hidden: Tensor) -> None:
    if slope.dtype == total.dtype:
        total.addmm_(slope.t(), hidden)
    else:
        total += slope.t() @ hidden


def _scaled_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = _at_least_float32(linear(hidden, weight, bias))
    return logits if temperature == 1 else logits / temperature


def _picked(logs: Tensor, targets: Tensor) -> Tensor:
    return logs.gather(1, targets[:, None]).squeeze(1)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _cast(dtype: torch.dtype, *tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def _chunks(hidden: Tensor, weight: Tensor) -> list[slice]:
    size = max(1, LOGITS_AT_ONCE.get(hidden.device.type, 2**27) // len(weight))
    return [slice(start, start + size) for start in range(0, len(hidden), size)]
