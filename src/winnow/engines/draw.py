"""One token for each row, from its logits and a uniform number."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64
"""Tokens that are summed before the running sum: it then goes over V / 64 numbers, and over the 64 of one block."""


def draw(
    logits: Float[Tensor, "r v"], uniform: Float[Tensor, " r"]
) -> tuple[Int[Tensor, " r"], Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Invert the cumulative distribution at `uniform`, in [0, 1): token, log-probability, entropy (nats).

    First the block, then the token in it. Running sums are in float64. A token of probability 0 reaches nothing, and
    the goal stays below what the sum came to: whatever the rounding, some token reaches beyond the goal, and the first
    that does is possible.
    """
    logprobs = logits.log_softmax(-1)
    size = min(BLOCK, logits.shape[1])
    blocks = -(-logits.shape[1] // size)
    # Below the smallest normal number nothing is ever drawn, and arithmetic is many times slower on a CPU.
    probs = torch.nn.functional.threshold(logits.softmax(-1), torch.finfo(logits.dtype).tiny, 0.0)
    spare = blocks * size - logits.shape[1]
    parted = (torch.nn.functional.pad(probs, (0, spare)) if spare else probs).view(len(logits), blocks, size)
    block, rest = _first_beyond(parted.sum(-1), uniform)
    row = torch.arange(len(logits), device=logits.device)
    place, _ = _first_beyond(parted[row, block], rest)
    token = block * size + place
    # Where a probability is 0 its logarithm may be −∞, and their product must be 0.
    entropy = -(probs * logprobs.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)
    return token, logprobs.gather(-1, token[:, None]).squeeze(-1), entropy


def _first_beyond(masses: Float[Tensor, "r k"], share: Float[Tensor, " r"]) -> tuple[Tensor, Tensor]:
    """The first of K masses at which the running sum passes `share` of the whole; and what share of that mass is passed."""
    reach = masses.cumsum(-1, dtype=torch.float64).masked_fill_(masses == 0, 0.0)
    total = reach.amax(-1)
    goal = torch.minimum(share * total, total.nextafter(torch.zeros_like(total)))
    first = (reach > goal[:, None]).byte().argmax(-1)
    mass = masses.gather(-1, first[:, None]).squeeze(-1).double()
    before = reach.gather(-1, first[:, None]).squeeze(-1) - mass
    return first, ((goal - before) / mass).clamp(0, 1)
