"""Loss aggregation: how per-token terms are averaged over an optimiser batch.

Each rule maps the response lengths of N rows to (weight of each row's tokens, contribution of each row to the
denominator). The loss of an optimiser batch is Σ_rows weight · Σ_t term / Σ_rows contribution. The last sum runs over
the whole optimiser batch, all micro-batches and all ranks, so that memory settings do not change the objective.
"""

from jaxtyping import Float, Int
from torch import Tensor


def sequence_mean(lengths: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1/|D| Σ 1/|a| Σ_t: the mean over responses of each one's mean over tokens (Eq. 5, Eq. 6)."""
    lengths = lengths.double()
    return 1 / lengths.clamp(min=1), lengths.new_ones(len(lengths))


def token_mean(lengths: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1/Σ|a| Σ Σ_t: the mean over all tokens of the batch; every token counts the same (the released code, DAPO)."""
    lengths = lengths.double()
    return lengths.new_ones(len(lengths)), lengths


def sequence_sum(lengths: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1/|D| Σ Σ_t: the mean over responses of the sum over tokens, as in log π of a whole response (Eq. 1)."""
    lengths = lengths.double()
    return lengths.new_ones(len(lengths)), lengths.new_ones(len(lengths))


def constant_length(lengths: Int[Tensor, " n"], length: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """1/(|D|·`length`) Σ Σ_t: one fixed length for all responses, so no length bias (Dr. GRPO, arXiv 2503.20783)."""
    lengths = lengths.double()
    return lengths.new_ones(len(lengths)), lengths.new_full((len(lengths),), float(length))


def prompt_mean(
    lengths: Int[Tensor, " n"], prompts: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The mean over prompts of each one's mean over the tokens of all its responses (ScaleRL, arXiv 2510.13786)."""
    _, place, rows = prompts.unique(return_inverse=True, return_counts=True)
    tokens = lengths.new_zeros(len(rows)).index_add(0, place, lengths)
    return 1 / tokens[place].clamp(min=1).double(), 1 / rows[place].double()
