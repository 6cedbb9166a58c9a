"""The embedded task as a source of problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from winnow.data import arithmetic as chains
from winnow.data.problems import BadGolds, Problem, ProblemSet


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
        chain = chains.problem(self.seed, index, self.split, self.levels)
        direct, slip = (0.0, 0.0) if index < self.flawless else (self.direct, self.slip)
        solution = chains.demonstration(chain, self.seed, index, direct, slip)
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
