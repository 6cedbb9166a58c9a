"""Synthetic numbers that rules are tried on: rewards of prompts with samples, and log-probabilities of ragged rows.

All come from a named seed, in float64. They are ragged, so that padding, one-token responses and prompts without a
mixed verdict occur. The small ones let every coordinate of a gradient be taken by finite differences. The large ones
show a rule that does something else with many rows, prompts, samples or positions.
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


MANY_PROMPTS = 24
"""Prompts, and samples of each, of the large group."""
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


def groups() -> tuple[Group, Group]:
    """A small and a large group of numbers."""
    return group(), group(MANY_PROMPTS, MANY_PROMPTS)


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

    def wider(self) -> list["Tokens"]:
        """The same with padding: a little, and so much that all stand at columns of the other parity, far to the right.

        A rule that looks at the number of a column, or at the width, is seen by one of them.
        """
        return [self.padded(2, 3), self.padded(37, 4)]

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
SIGNS = (1.0, -1.0, -1.0, 1.0, -1.0, 1.0)


def tokens(spread: float = 0.3) -> Tokens:
    """Six rows of three prompts, two of them with one token; log-ratios to the old policy have this `spread`.

    The advantage is one number for each row, and both signs occur at each prompt.
    """
    response = torch.zeros(len(LENGTHS), 8, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(STARTS, LENGTHS, strict=True)):
        response[row, start : start + length] = True
    return _drawn(response, torch.tensor(PROMPTS), torch.tensor(SIGNS), spread)


MANY_ROWS, MANY_POSITIONS = 40, 40


def many_tokens() -> Tokens:
    """Forty rows of eight prompts, whose responses have 1 to 37 tokens, at log-ratios of some 0.3."""
    draw = generator("many tokens")
    starts = torch.randint(1, 4, (MANY_ROWS, 1), generator=draw)
    ends = starts + torch.randint(1, MANY_POSITIONS - 2, (MANY_ROWS, 1), generator=draw)
    places, rows = torch.arange(MANY_POSITIONS), torch.arange(MANY_ROWS)
    return _drawn((places >= starts) & (places < ends), rows // 5, 1.0 - 2.0 * (rows % 2), 0.3)


def both_tokens() -> tuple[Tokens, Tokens]:
    """The small and the large example."""
    return tokens(), many_tokens()


def _drawn(
    response: Bool[Tensor, "b s"], prompts: Int[Tensor, " b"], signs: Float[Tensor, " b"], spread: float
) -> Tokens:
    """Numbers for rows with these responses, whose advantages have these signs."""
    normal = torch.randn(4, *response.shape, generator=generator("tokens"), dtype=torch.float64)
    off = torch.randn(response.shape, generator=generator("sampled"), dtype=torch.float64)
    logprobs = -0.5 - normal[0].abs()
    advantage = ((0.5 + normal[3, :, 0].abs()) * signs)[:, None].expand_as(response)
    whole = Tokens(
        logprobs,
        logprobs - spread * normal[1],
        logprobs - 0.3 * normal[2],
        advantage,
        response,
        prompts,
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
