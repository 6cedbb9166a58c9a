"""Synthetic numbers that rules are tried on: rewards of prompts with samples, and log-probabilities of ragged rows.

All come from a named seed, in float64. They are small, so that every coordinate of a gradient can be taken by finite
differences, and ragged, so that padding, one-token responses and prompts without a mixed verdict occur.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.rng import seed_of


def generator(*names: str | int) -> torch.Generator:
    """A stream of random numbers that depends on the names alone."""
    return torch.Generator().manual_seed(seed_of(0, "conformance", *names))


def orders(count: int, *names: str | int) -> list[Int[Tensor, " n"]]:
    """Two orders of so many things: one in which none has its own place, and one that is drawn."""
    return [torch.arange(count).roll(1), torch.randperm(count, generator=generator(*names))]


@dataclass(frozen=True, slots=True)
class Group:
    """Quantities that a rule of rewards may name: P prompts with G samples each.

    `parts` are the rewards of M functions, `weights` what they are weighed with.
    """

    rewards: Float[Tensor, "p g"]
    correct: Bool[Tensor, "p g"]
    truncated: Bool[Tensor, "p g"]
    lengths: Int[Tensor, "p g"]
    penalty: Float[Tensor, "p g"]
    usable: Bool[Tensor, "p g"]
    parts: Float[Tensor, "p g m"]
    weights: Float[Tensor, " m"]

    def prompts(self, which: slice | Int[Tensor, " q"]) -> "Group":
        """The same of some prompts alone, in this order."""
        return self._of(lambda matrix: matrix[which])

    def samples(self, order: Int[Tensor, "p g"]) -> "Group":
        """Each prompt's samples in its own order."""
        return self._of(lambda matrix: in_order(matrix, order))

    def with_rewards(self, rewards: Float[Tensor, "p g"]) -> "Group":
        """Other rewards, of which two functions have two thirds and a third."""
        return replace(self, rewards=rewards, parts=torch.stack([rewards, rewards], 2), weights=_SHARES.to(rewards))

    def _of(self, change) -> "Group":
        return replace(self, **{f.name: change(getattr(self, f.name)) for f in fields(self) if f.name != "weights"})


_SHARES = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)


def in_order(matrix: Tensor, order: Int[Tensor, "p g"]) -> Tensor:
    """Each line of a (P, G, …) matrix in its own order."""
    return matrix[torch.arange(len(matrix))[:, None], order]


def group(prompts: int = 5, samples: int = 4) -> Group:
    """Prompts of which the last two are all right and all wrong, if there are so many; no two rewards are equal."""
    draw = generator("group", prompts, samples)
    correct = torch.rand(prompts, samples, generator=draw) < 0.5
    if samples > 1:
        correct[:, 0], correct[:, 1] = True, False
    if prompts >= 4:
        correct[-2], correct[-1] = True, False
    noise = torch.rand(2, prompts, samples, generator=draw, dtype=torch.float64)
    rewards = torch.where(correct, 1.0, -1.0) + 0.2 * noise[0]
    whole = torch.ones_like(correct)
    plain = Group(
        rewards, correct, ~whole, _lengths(draw, prompts, samples), 0.1 * noise[1], whole, rewards[..., None], _SHARES
    )
    return plain.with_rewards(rewards)


def _lengths(draw: torch.Generator, prompts: int, samples: int) -> Int[Tensor, "p g"]:
    return torch.randint(1, 9, (prompts, samples), generator=draw)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Quantities that a rule of tokens may name: B rows, of which each has its response anywhere within S positions.

    `prompts` are the numbers of the rows' prompts. Outside of the responses the numbers are what the framework has
    there: zeros.
    """

    logprobs: Float[Tensor, "b s"]
    old: Float[Tensor, "b s"]
    reference: Float[Tensor, "b s"]
    advantage: Float[Tensor, "b s"]
    response: Bool[Tensor, "b s"]
    prompts: Int[Tensor, " b"]
    sampled: Float[Tensor, "b s"]

    @property
    def lengths(self) -> Int[Tensor, " b"]:
        return self.response.sum(1)

    def rows(self, which: slice | Int[Tensor, " c"]) -> "Tokens":
        """The same of some rows alone, in this order."""
        return self._of(lambda matrix: matrix[which])

    def padded(self, left: int, right: int) -> "Tokens":
        """The same with further positions before and after, which hold zeros."""

        def pad(matrix: Tensor) -> Tensor:
            return matrix if matrix.dim() == 1 else torch.nn.functional.pad(matrix, (left, right))

        return self._of(pad)

    def with_junk(self) -> "Tokens":
        """The same with arbitrary numbers outside of the responses."""
        draw = generator("junk")

        def junk(matrix: Tensor) -> Tensor:
            if not matrix.is_floating_point():
                return matrix
            return torch.where(self.response, matrix, -3 * torch.rand(matrix.shape, generator=draw, dtype=matrix.dtype))

        return self._of(junk)

    def on_policy(self) -> "Tokens":
        """The same before the first update of an exact sampler: the old log-probabilities are those of now."""
        return replace(self, old=self.logprobs.clone(), sampled=self.logprobs.clone())

    def to(self, dtype: torch.dtype) -> "Tokens":
        return self._of(lambda matrix: matrix.to(dtype) if matrix.is_floating_point() else matrix)

    def _of(self, change) -> "Tokens":
        return replace(self, **{f.name: change(getattr(self, f.name)) for f in fields(self)})


LENGTHS = (3, 1, 5, 4, 2, 1)
STARTS = (2, 2, 2, 1, 1, 3)
PROMPTS = (0, 0, 0, 1, 1, 2)


def tokens(spread: float = 0.3) -> Tokens:
    """Six rows of three prompts, two of them with one token; log-ratios to the old policy have this `spread`.

    The advantage is one number for each row, and both signs occur at each prompt.
    """
    draw = generator("tokens")
    response = torch.zeros(len(LENGTHS), 8, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(STARTS, LENGTHS, strict=True)):
        response[row, start : start + length] = True
    normal = torch.randn(4, *response.shape, generator=draw, dtype=torch.float64)
    off = torch.randn(response.shape, generator=generator("sampled"), dtype=torch.float64)
    logprobs = -0.5 - normal[0].abs()
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    advantage = ((0.5 + normal[3, :, 0].abs()) * sign)[:, None].expand_as(response)
    whole = Tokens(
        logprobs,
        logprobs - spread * normal[1],
        logprobs - 0.3 * normal[2],
        advantage,
        response,
        torch.tensor(PROMPTS),
        logprobs - spread * (normal[1] + 0.3 * off),
    )
    return whole._of(lambda matrix: matrix * response if matrix.is_floating_point() else matrix)


def far_tokens(log_ratio: float) -> Tokens:
    """The same rows where every token's log-ratio to the old policy and to the reference is ±`log_ratio`."""
    plain = tokens()
    up = torch.rand(plain.response.shape, generator=generator("far")) < 0.5
    up[2], up[3] = True, False  # whole responses that moved one way
    moved = torch.where(up, log_ratio, -log_ratio) * plain.response
    before = plain.logprobs - moved
    return replace(plain, old=before, reference=before, sampled=before)
