"""Chains of sums and differences: problems and imperfect demonstrations, each a function of its names.

A problem is read from left to right; every running value lies in 0..99, so each step is one sum or
difference of two numbers of at most two digits. Running values are drawn uniformly, hence so is the answer:
whoever guesses is right once in a hundred, and whoever works step by step and never slips is always right.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import overload

from winnow.data.problems import BadGolds, Problem, ProblemSet
from winnow.errors import ConfigError
from winnow.rng import seed_of

SPLITS = ("train", "heldout")
LEVELS = (3, 4, 5, 6)
"""Numbers of operations in a chain."""

HIGHEST = 99
HELDOUT_IN = 8
"""One chain in this many belongs to the held-out split."""


@dataclass(frozen=True)
class Chain:
    """`start`, then signed `terms`: `Problem(47, (38, -21)).text` is `"47+38-21="` and its answer 64."""

    start: int
    terms: tuple[int, ...]

    @property
    def values(self) -> tuple[int, ...]:
        """The running value after each term: `(85, 64)` for `47+38-21=`."""
        return tuple(accumulate(self.terms, initial=self.start))[1:]

    @property
    def answer(self) -> int:
        return self.values[-1]

    @property
    def text(self) -> str:
        return f"{self.start}{''.join(f'{term:+d}' for term in self.terms)}="


def split_of(problem: Chain) -> str:
    """The split that owns a chain. It depends on the text alone, so splits are disjoint under every seed."""
    return "heldout" if seed_of("arithmetic", problem.text) % HELDOUT_IN == 0 else "train"


def chain_at(seed: int, index: int, split: str = "train", levels: tuple[int, ...] = LEVELS) -> Chain:
    """Problem number `index` of the endless stream named (`seed`, `split`); all `levels` are equally likely.

    Chains are drawn until one belongs to `split`. A chain may come twice in a stream, never in both splits.

    Raises:
        ConfigError: `split` is unknown, or a level is below 1.
    """
    if split not in SPLITS:
        raise ConfigError(f"arithmetic has no split {split!r}; type one of {', '.join(SPLITS)}")
    if not levels or min(levels) < 1:
        raise ConfigError(f"levels {list(levels)} must be numbers of operations from 1 up; type [3,4,5,6]")
    draw = random.Random(seed_of("arithmetic", seed, split, index))
    level = draw.choice(levels)
    while split_of(chain := _draw_chain(draw, level)) != split:
        pass
    return chain


def _draw_chain(draw: random.Random, level: int) -> Chain:
    """Uniform running values, no two neighbours equal; the terms are their differences."""
    values = [draw.randint(1, HIGHEST)]
    for _ in range(level):
        value = draw.randrange(HIGHEST)
        values.append(value + (value >= values[-1]))
    return Chain(values[0], tuple(after - before for before, after in pairwise(values)))


def demonstration(problem: Chain, seed: int, index: int, direct: float, slip: float) -> str:
    r"""One imperfect answer to `problem`, without the end token.

    With probability `direct` a blind guess, e.g. `\boxed{17}`. Otherwise the steps, each that carries or borrows
    forgetting it with probability `slip`; the slipped value is worked on with. `47+38-21=` without a slip and
    with one:

        47+38=85,85-21=64;\boxed{64}
        47+38=75,75-21=54;\boxed{54}
    """
    draw = random.Random(seed_of("demonstration", seed, index, problem.text))
    if draw.random() < direct:
        return rf"\boxed{{{draw.randint(0, HIGHEST)}}}"
    return worked(problem, _shifts(problem, draw, slip))


def worked(problem: Chain, shifts: tuple[int, ...]) -> str:
    r"""The steps with running value k off by `shifts[k]`: all zeros for the true solution."""
    values = [value + shift for value, shift in zip(problem.values, shifts, strict=True)]
    pairs = pairwise([problem.start, *values])
    steps = [f"{old}{term:+d}={new}" for (old, new), term in zip(pairs, problem.terms, strict=True)]
    return rf"{','.join(steps)};\boxed{{{values[-1]}}}"


def _shifts(problem: Chain, draw: random.Random, slip: float) -> tuple[int, ...]:
    """How far each running value is off.

    A forgotten carry makes this and all later values 10 smaller, a forgotten borrow 10 larger. Where that would
    take one of them out of 0..99, the step does not slip.
    """
    shifts, shift = [], 0
    for step, term in enumerate(problem.terms):
        rest = problem.values[step:]
        by = _forgotten(rest[0] - term, term)
        fits = min(rest) + shift + by >= 0 and max(rest) + shift + by <= HIGHEST
        if fits and draw.random() < slip:
            shift += by
        shifts.append(shift)
    return tuple(shifts)


def _forgotten(value: int, term: int) -> int:
    """What forgetting to carry adds to `value + term`: -10 for `47+38`, 10 for `85-26`, 0 where nothing is carried."""
    units = value % 10 + (term % 10 if term > 0 else -(-term % 10))
    return -10 if units > 9 else 10 if units < 0 else 0


class ArithmeticSplit(Sequence[Problem]):
    """`size` problems of one split, each made when it is asked for."""

    def __init__(
        self, seed: int, split: str, levels: Sequence[int], size: int, flawless: int, direct: float, slip: float
    ) -> None:
        self.seed, self.split, self.levels, self.size = seed, split, tuple(levels), size
        self.flawless, self.direct, self.slip = flawless, direct, slip

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        chain = chain_at(self.seed, index, self.split, self.levels)
        direct, slip = (0.0, 0.0) if index < self.flawless else (self.direct, self.slip)
        solution = demonstration(chain, self.seed, index, direct, slip)
        return Problem(f"{self.split}:{index}", chain.text, str(chain.answer), solution)


@dataclass(frozen=True)
class Arithmetic:
    """Chains of sums and differences, whose golds are integers: no verifier has anything to find.

    The demonstrations of the first `flawless` problems are worked without a slip; of the others a share `direct`
    guesses, and each step that carries or borrows forgets to with probability `slip`.
    """

    seed: int
    levels: Sequence[int]
    train_size: int
    heldout_size: int
    flawless: int
    direct: float
    slip: float

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        return ProblemSet(
            "arithmetic", self._split("train", self.train_size), self._split("heldout", self.heldout_size)
        )

    def _split(self, name: str, size: int) -> ArithmeticSplit:
        return ArithmeticSplit(self.seed, name, self.levels, size, self.flawless, self.direct, self.slip)
