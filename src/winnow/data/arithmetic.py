"""Arithmetic task: chains of sums and differences with imperfect demonstrations, each a function of seed and index.

A problem is read from left to right. Every running value lies in 0..99, so that each step is one sum or difference of
two numbers of at most two digits. Running values are drawn uniformly, and therefore so is the answer: a guess is right
once in a hundred, and working step by step without a slip is always right.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import overload

from winnow.data.problems import BadGolds, Problem, ProblemSet
from winnow.errors import ConfigError
from winnow.rng import seed_of

SPLITS = ("train", "heldout")
LEVELS = (3, 4, 5, 6)
"""The numbers of operations that a chain may have."""

HIGHEST = 99
HELDOUT_IN = 8
"""One chain in this many belongs to the held-out split."""


@dataclass(frozen=True)
class Chain:
    """A problem of `start` and signed `terms`: `Chain(47, (38, -21)).text` is `"47+38-21="`, and its answer is 64."""

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
    """The split that a chain belongs to. It depends on the text alone, so that splits are disjoint for all seeds."""
    return "heldout" if seed_of("arithmetic", problem.text) % HELDOUT_IN == 0 else "train"


def chain_at(seed: int, index: int, split: str = "train", levels: tuple[int, ...] = LEVELS) -> Chain:
    """Problem number `index` of the endless stream of `seed` and `split`; all `levels` are equally likely.

    Chains are drawn until one belongs to `split`. A chain may occur twice in a stream, but never in both splits.

    Raises:
        ConfigError: `split` is unknown, or a level is below 1.
    """
    if split not in SPLITS:
        raise ConfigError(f"arithmetic has no split {split!r}; type one of {', '.join(SPLITS)}")
    if not levels or min(levels) < 1:
        raise ConfigError(f"arithmetic levels {list(levels)} must be numbers of operations, 1 or more; type [3,4,5,6]")
    draw = random.Random(seed_of("arithmetic", seed, split, index))
    level = draw.choice(levels)
    while split_of(chain := _draw_chain(draw, level)) != split:
        pass
    return chain


def _draw_chain(draw: random.Random, level: int) -> Chain:
    """A chain with uniform running values, no two successive ones equal; the terms are their differences."""
    values = [draw.randint(1, HIGHEST)]
    for _ in range(level):
        value = draw.randrange(HIGHEST)
        values.append(value + (value >= values[-1]))
    return Chain(values[0], tuple(after - before for before, after in pairwise(values)))


def demonstration(problem: Chain, seed: int, index: int, direct: float, slip: float) -> str:
    r"""One imperfect answer to `problem`, without the end token.

    With probability `direct` it is a blind guess, such as `\boxed{17}`. Otherwise it gives the steps; each step with a
    carry or borrow forgets it with probability `slip`, and the next step continues from the wrong value. The answer to
    `47+38-21=` without a slip and with one:

        47+38=85,85-21=64;\boxed{64}
        47+38=75,75-21=54;\boxed{54}
    """
    draw = random.Random(seed_of("demonstration", seed, index, problem.text))
    if draw.random() < direct:
        return rf"\boxed{{{draw.randint(0, HIGHEST)}}}"
    return worked(problem, _shifts(problem, draw, slip))


def worked(problem: Chain, shifts: tuple[int, ...]) -> str:
    r"""The worked steps, with running value k wrong by `shifts[k]`; all zeros give the correct solution."""
    values = [value + shift for value, shift in zip(problem.values, shifts, strict=True)]
    pairs = pairwise([problem.start, *values])
    steps = [f"{old}{term:+d}={new}" for (old, new), term in zip(pairs, problem.terms, strict=True)]
    return rf"{','.join(steps)};\boxed{{{values[-1]}}}"


def _shifts(problem: Chain, draw: random.Random, slip: float) -> tuple[int, ...]:
    """The error of each running value.

    A forgotten carry makes this and all later values 10 smaller, and a forgotten borrow makes them 10 larger. A step
    does not slip if that would take one of them out of 0..99.
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
    """The error in `value + term` without its carry or borrow: -10 for `47+38`, 10 for `85-26`, 0 if it has none."""
    units = value % 10 + (term % 10 if term > 0 else -(-term % 10))
    return -10 if units > 9 else 10 if units < 0 else 0


@dataclass(frozen=True)
class Arithmetic:
    """Dataset of chains of sums and differences. Golds are integers, which every verifier can read.

    The demonstrations of the first `flawless` problems have no slips. Of the others, a share `direct` are guesses, and
    each step with a carry or borrow forgets it with probability `slip`.
    """

    seed: int
    levels: Sequence[int]
    train_size: int
    heldout_size: int
    flawless: int
    direct: float
    slip: float

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        train = ArithmeticSplit(self, "train", self.train_size)
        return ProblemSet("arithmetic", train, ArithmeticSplit(self, "heldout", self.heldout_size))


@dataclass(frozen=True, eq=False)
class ArithmeticSplit(Sequence[Problem]):
    """`size` problems of one split, each made on demand."""

    dataset: Arithmetic
    split: str
    size: int

    def __len__(self) -> int:
        return self.size

    @property
    def most_bytes(self) -> int:
        """The length of the longest text that a problem may have: a number, terms with a sign, an equals sign."""
        return len(str(HIGHEST)) + max(self.dataset.levels, default=0) * (1 + len(str(HIGHEST))) + 1

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        if isinstance(index, slice):
            places = range(*index.indices(self.size))
            # The first so many stay made on demand: to make 100,000 takes longer than a short run.
            is_beginning = (places.start, places.step) == (0, 1)
            return replace(self, size=len(places)) if is_beginning else [self[i] for i in places]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        made = self.dataset
        chain = chain_at(made.seed, index, self.split, tuple(made.levels))
        direct, slip = (0.0, 0.0) if index < made.flawless else (made.direct, made.slip)
        solution = demonstration(chain, made.seed, index, direct, slip)
        return Problem(f"{self.split}:{index}", chain.text, str(chain.answer), solution)
