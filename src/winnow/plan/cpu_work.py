"""Work of updates, forwards and decoding on a CPU, in the units whose costs a calibration finds."""

from winnow.models.shape import ModelShape
from winnow.plan.machine import Units
from winnow.plan.work import Tokens, forward_flops, multiplied, update_flops

FLOAT = 4
"""Bytes of a number: a CPU computes in float32."""


def update_units(shape: ModelShape, tokens: Tokens, micro_batches: float, recompute: bool) -> Units:
    """Units of forward and backward; recomputation goes through the blocks once more."""
    again = 4 / 3 if recompute else 1
    return Units(
        flop=update_flops(shape, tokens, recompute, critic=False),
        activation=again * _activation_bytes(shape, tokens.all),
        logit=FLOAT * tokens.response * shape.vocabulary,
        call=again * shape.layers * micro_batches,
    )


def forward_units(shape: ModelShape, tokens: Tokens, micro_batches: float) -> Units:
    """Units of a forward alone: a third of an update's activations and calls, and a third of its logits."""
    return Units(
        flop=forward_flops(shape, tokens),
        activation=_activation_bytes(shape, tokens.all) / 3,
        logit=FLOAT * tokens.response * shape.vocabulary / 3,
        call=shape.layers * micro_batches / 3,
    )


def decoding_units(shape: ModelShape, steps: float, tokens: float, positions: float) -> Units:
    """Units of decoding `tokens` tokens in `steps` steps that read `positions` cached positions in all."""
    return Units(
        flop=2 * multiplied(shape) * tokens,
        weight=steps * FLOAT * multiplied(shape),
        cache=positions * shape.layers * shape.kv_width * 2 * FLOAT,
        logit=FLOAT * tokens * shape.vocabulary,
        call=steps * shape.layers,
        step=steps,
    )


def _activation_bytes(shape: ModelShape, tokens: float) -> float:
    """Bytes that the blocks save for backward: 9 widths, 2 key widths and 4 MLP widths a token and layer."""
    return tokens * shape.layers * FLOAT * (9 * shape.width + 2 * shape.kv_width + 4 * shape.intermediate)
