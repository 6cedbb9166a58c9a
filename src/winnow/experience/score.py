"""Forward passes without gradients over many rows."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.experience import ranks
from winnow.experience.plan import within_budget
from winnow.experience.sequences import TokenSequence

Forward = Callable[[Int[Tensor, "b s"], int], Float[Tensor, "b s"]]
"""(right-padded tokens, first position that matters) -> a number for each position."""


def score(
    forward: Forward, sequences: Sequence[TokenSequence], token_budget: int, device: torch.device
) -> list[Float[Tensor, " _"]]:
    """`forward` over every sequence: (S,) on the CPU for each, zero on the prompt. Ranks share the work."""
    mine = ranks.share_of(sequences)
    scored: list[Float[Tensor, " _"]] = [torch.empty(0)] * len(mine)
    with torch.no_grad():
        for places in within_budget([len(ids) for ids, _ in mine], token_budget):
            width = max(len(mine[i][0]) for i in places)
            tokens = torch.tensor([mine[i][0] + (0,) * (width - len(mine[i][0])) for i in places], device=device)
            numbers = forward(tokens, min(mine[i][1] for i in places)).cpu()
            for row, i in zip(numbers, places, strict=True):
                ids, prompt_length = mine[i]
                scored[i] = row[: len(ids)].clone()
                scored[i][:prompt_length] = 0
    return ranks.gather(scored, len(sequences))
