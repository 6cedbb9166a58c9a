"""Decoding of rows in slots: how many steps it takes, and how many keys and values it reads."""

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Decoding:
    """The decoding of some rows by one sampler: steps, tokens, and cached positions that are read."""

    steps: int
    tokens: int
    positions: float


def decoded(lengths: np.ndarray, slots: int, prompt: float) -> Decoding:
    """The decoding of rows of these lengths, `slots` at a time; a row takes the slot that is free first.

    A step gives each row in a slot one token. With a slot for every row there are as many steps as the longest row has
    tokens. Token t of a row reads the prompt's positions and t others.
    """
    tokens = int(lengths.sum())
    positions = float((lengths * prompt + lengths.astype(float) ** 2 / 2).sum())
    if len(lengths) <= slots:
        return Decoding(int(lengths.max(initial=0)), tokens, positions)
    free = [0] * slots
    for length in lengths.tolist():
        heapq.heapreplace(free, free[0] + length)
    return Decoding(max(free), tokens, positions)


def ranks_of(prompts: int, samples: int, ranks: int) -> list[int]:
    """Rows of each rank: prompts are dealt in turn, and a prompt's samples stay together."""
    return [len(range(rank, prompts, ranks)) * samples for rank in range(ranks)]
