"""The numbers that both sides are given: one iteration of 4 prompts with 4 responses each, of 1 to 6 tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

PROMPTS, SAMPLES, MAX_TOKENS = 4, 4, 6
EOS, PAD = 1, 0


@dataclass(frozen=True)
class Numbers:
    """16 responses, prompt by prompt. Each list of log-probabilities has one tensor for each response.

    `current` are those that the loss is a function of, `old` those of the policy before the iteration's updates,
    `sampled` the sampler's own, and `reference` those of the initial policy. Two reward functions gave `rewards`. A
    response of `MAX_TOKENS` tokens was cut off.
    """

    tokens: list[tuple[int, ...]]
    current: list[Tensor]
    old: list[Tensor]
    sampled: list[Tensor]
    reference: list[Tensor]
    entropies: list[Tensor]
    rewards: Tensor

    @property
    def truncated(self) -> list[bool]:
        return [tokens[-1] != EOS for tokens in self.tokens]


def numbers(seed: int = 0, spread: float = 0.3) -> Numbers:
    """The numbers of a seed. Log-ratios to the old policy have this `spread`; the third prompt's rewards are equal."""
    draw = torch.Generator().manual_seed(seed)
    tokens = []
    for _ in range(PROMPTS * SAMPLES):
        length = int(torch.randint(1, MAX_TOKENS + 1, (), generator=draw))
        ids = torch.randint(3, 30, (length,), generator=draw).tolist()
        tokens.append(tuple(ids if length == MAX_TOKENS else [*ids[:-1], EOS]))

    def normal(scale: float) -> list[Tensor]:
        return [scale * torch.randn(len(ids), generator=draw, dtype=torch.float64) for ids in tokens]

    current = [-0.3 - each.abs() for each in normal(1.0)]
    old, reference = (
        [now - moved for now, moved in zip(current, normal(by), strict=True)] for by in (spread, 2 * spread)
    )
    sampled = [before - moved for before, moved in zip(old, normal(spread), strict=True)]
    verdicts = torch.randint(0, 2, (PROMPTS, SAMPLES, 1), generator=draw).double()
    verdicts[:, 0], verdicts[:, 1] = 1.0, 0.0
    graded = torch.rand(PROMPTS, SAMPLES, 1, generator=draw, dtype=torch.float64)
    verdicts[2], graded[2] = 1.0, 0.25
    entropies = [0.1 + each.abs() for each in normal(1.0)]
    return Numbers(tokens, current, old, sampled, reference, entropies, torch.cat([verdicts, graded], 2))


@dataclass(frozen=True)
class Loss:
    """A loss, and its derivative by each log-probability of each response."""

    value: float
    gradient: list[Tensor]
