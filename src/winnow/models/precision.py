"""The precision that weights are kept in."""

import torch
from torch import nn


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
