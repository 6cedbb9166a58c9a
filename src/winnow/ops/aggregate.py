"""How tokens are averaged: each rule gives a row's weight per token and what the row adds to the denominator.

The loss of an optimiser batch is Σ_rows weight · Σ_t term / Σ_rows count, the last sum over all its micro-batches and ranks.
"""

from jaxtyping import Float, Int
from torch import Tensor


def sequence_mean(lengths: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1/|D| Σ 1/|a| Σ_t: every response counts the same (Eq. 5, Eq. 6)."""
    lengths = lengths.double()
    return 1 / lengths.clamp(min=1), lengths.new_ones(len(lengths))


def token_mean(lengths: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Every token counts the same (the released code, DAPO)."""
    lengths = lengths.double()
    return lengths.new_ones(len(lengths)), lengths


def sequence_sum(lengths: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1/|D| Σ Σ_t: the log-probability of the whole response (Eq. 1)."""
    lengths = lengths.double()
    return lengths.new_ones(len(lengths)), lengths.new_ones(len(lengths))


def constant_length(lengths: Int[Tensor, " n"], length: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Σ_t over a fixed `length`: no bias by response length (Dr. GRPO, arXiv 2503.20783)."""
    lengths = lengths.double()
    return lengths.new_ones(len(lengths)), lengths.new_full((len(lengths),), float(length))
