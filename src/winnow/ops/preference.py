"""Direct preference optimisation."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def dpo(margin: Float[Tensor, " b"], beta: float, smoothing: float = 0.0) -> Float[Tensor, " b"]:
    """−(1 − smoothing) log σ(β·margin) − smoothing log σ(−β·margin) (arXiv 2305.18290, Eq. 7).

    `margin` is [log π(a⁺) − log π_ref(a⁺)] − [log π(a⁻) − log π_ref(a⁻)], summed over tokens; `smoothing` is the chance
    that a label is wrong (conservative DPO).
    """
    return -(1 - smoothing) * F.logsigmoid(beta * margin) - smoothing * F.logsigmoid(-beta * margin)
