"""Forward passes without gradients over many rows."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.experience import ranks
from winnow.experience.budget import Budget
from winnow.experience.sequences import TokenSequence
from winnow.packed import Packed, pack

Forward = Callable[[Packed], Float[Tensor, "b s"]]
"""Rows -> a number for each response token, zero elsewhere."""


def score(
    forward: Forward, sequences: Sequence[TokenSequence], budget: Budget, device: torch.device
) -> list[Float[Tensor, " _"]]:
    """`forward` over every sequence: (S,) on the CPU for each, zero on the prompt.

    Ranks share the work; rows of a prompt that stand together share its tokens.
    """
    mine = ranks.run_of(sequences)
    scored: list[Float[Tensor, " _"]] = [torch.empty(0)] * len(mine)
    with torch.no_grad():
        for places in budget.cut([(sequence,) for sequence in mine]):
            numbers = forward(pack([mine[i] for i in places]).to(device)).cpu()
            for row, i in zip(numbers, places, strict=True):
                scored[i] = row[: len(mine[i].token_ids)].clone()
    return ranks.gather_runs(scored)
