"""Losses of preference pairs (DPO and its kin), per pair, and the divergences that bound them.

A rule reads the scores of the chosen and the rejected response and β. A score is the log-ratio log π/π_ref summed over
the response's tokens, or a divergence's function of it. Where that is an exponential, the log-ratio counts up to ±20,
beyond which it would overflow. arXiv numbers name the source of each.
"""

from math import log

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from winnow.ops.ratio import bounded

PerPair = Float[Tensor, " b"]


def sigmoid(chosen: PerPair, rejected: PerPair, beta: float, smoothing: float = 0.0) -> PerPair:
    """−(1 − smoothing) log σ(β·m) − smoothing log σ(−β·m), m = chosen − rejected (DPO, arXiv 2305.18290, Eq. 7).

    `smoothing` is the assumed probability that a label is wrong (conservative DPO).
    """
    margin = chosen - rejected
    return -(1 - smoothing) * F.logsigmoid(beta * margin) - smoothing * F.logsigmoid(-beta * margin)


def robust(chosen: PerPair, rejected: PerPair, beta: float, smoothing: float) -> PerPair:
    """[−(1 − s) log σ(β·m) + s log σ(−β·m)] / (1 − 2s): unbiased if labels are wrong with chance s (2403.00409)."""
    margin = beta * (chosen - rejected)
    return (smoothing * F.logsigmoid(-margin) - (1 - smoothing) * F.logsigmoid(margin)) / (1 - 2 * smoothing)


def hinge(chosen: PerPair, rejected: PerPair, beta: float) -> PerPair:
    """max(0, 1 − β·m): no gradient from pairs that are well apart (SLiC-HF, 2305.10425)."""
    return (1 - beta * (chosen - rejected)).clamp(min=0)


def ipo(
    chosen: PerPair,
    rejected: PerPair,
    beta: float,
    chosen_lengths: Int[Tensor, " b"],
    rejected_lengths: Int[Tensor, " b"],
) -> PerPair:
    """(m − 1/(2β))², m of scores divided by their lengths: the margin has a target (IPO, 2310.12036, Eq. 17).

    The paper's margin is of sums; that of means is TRL's and does not depend on how long the responses are.
    """
    return (chosen / chosen_lengths - rejected / rejected_lengths - 1 / (2 * beta)).square()


def exo(chosen: PerPair, rejected: PerPair, beta: float, smoothing: float) -> PerPair:
    """KL((σ(β·m), σ(−β·m)) ‖ (1 − s, s)): the reverse of DPO's direction (EXO, 2402.00856, Eq. 16)."""
    margin = beta * (chosen - rejected)
    better = margin.sigmoid() * (F.logsigmoid(margin) - log(1 - smoothing))
    return better + (-margin).sigmoid() * (F.logsigmoid(-margin) - log(smoothing))


def sppo(chosen: PerPair, rejected: PerPair, beta: float) -> PerPair:
    """(chosen − 1/(2β))² + (rejected + 1/(2β))²: each score has a target of its own (SPPO, 2405.00675, Eq. 4.7).

    The equation's chances of winning are 1 and 0 here, as in TRL's `sppo_hard`.
    """
    return (chosen - 0.5 / beta).square() + (rejected + 0.5 / beta).square()


def reverse_kl(log_ratio: PerPair) -> PerPair:
    """log π/π_ref, the score of DPO itself: its KL to the reference is KL(π ‖ π_ref)."""
    return log_ratio


def forward_kl(log_ratio: PerPair) -> PerPair:
    """1 − π_ref/π, with KL(π_ref ‖ π) in the place of KL(π ‖ π_ref) (f-DPO, 2309.16240)."""
    return -bounded(-log_ratio).expm1()


def jensen_shannon(log_ratio: PerPair) -> PerPair:
    """log 2π/(π + π_ref), with the Jensen-Shannon divergence (f-DPO, 2309.16240)."""
    return log(2) + F.logsigmoid(log_ratio)


def alpha(log_ratio: PerPair, order: float) -> PerPair:
    """((π/π_ref)^(order − 1) − 1) / (order − 1), with the divergence of this order; towards 1 it is `reverse_kl`."""
    return bounded((order - 1) * log_ratio).expm1() / (order - 1)
