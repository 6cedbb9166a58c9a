"""Curricula, which `curriculum` selects: the order in which a run meets its training problems."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import ceil, log
from typing import Protocol

from winnow.data.order import Order, OrderState, Passes, Successes, Unlearning
from winnow.data.problems import Problem
from winnow.errors import ConfigError
from winnow.rng import seed_of


class Curriculum(Protocol):
    """Interface of the objects that `conf/curriculum` builds."""

    def order(self, problems: Sequence[Problem], seed: int, shuffle: bool) -> Order:
        """The order of the problems in a run with this seed; without `shuffle`, that of the dataset.

        Raises:
            ConfigError: the problems lack what the curriculum reads.
        """
        ...


@dataclass(frozen=True)
class NoCurriculum:
    """Endless passes over all problems."""

    def order(self, problems: Sequence[Problem], seed: int, shuffle: bool) -> Order:
        return Passes(problems, seed, shuffle)


@dataclass(frozen=True)
class ByColumn:
    """From easy to hard by a column of the dataset: a number, or a text such as `Level 5`.

    Iteration i draws from the easiest part of the problems, without repetition inside the iteration. The part grows
    evenly from `start` to all of them over the first `iterations` iterations (competence-based curriculum, arXiv
    1903.09848, with a linear schedule).
    """

    column: str | None
    start: float
    iterations: int

    def order(self, problems: Sequence[Problem], seed: int, shuffle: bool) -> Order:
        if self.column is None:
            raise ConfigError("curriculum.column is not set; type curriculum.column=NAME, a column of the dataset")
        levels = [self._level(problem, self.column) for problem in problems]
        if len({type(level) for level in levels}) > 1:
            raise ConfigError(
                f"curriculum.column={self.column}: some values are numbers and others texts; correct the dataset"
            )
        places = sorted(range(len(problems)), key=lambda place: (levels[place], place))  # pyright: ignore
        return EasyFirst([problems[place] for place in places], seed, self.start, self.iterations)

    @staticmethod
    def _level(problem: Problem, column: str) -> float | tuple[tuple[str, float], ...]:
        value = problem.columns.get(column)
        if isinstance(value, int | float) and value == value:
            return float(value)
        if isinstance(value, str) and value.strip():
            parts = re.findall(r"(\D*)(\d*)", value)
            return tuple((text, float(digits or 0)) for text, digits in parts)
        known = ", ".join(problem.columns) or "none, as the problems are generated"
        if column not in problem.columns:
            raise ConfigError(f"curriculum.column={column}: {problem.key} has no such column; there are {known}")
        raise ConfigError(f"curriculum.column={column}: is {value!r} in {problem.key}; it has to be a number or a text")


class EasyFirst(Unlearning):
    """The order of `ByColumn` over problems that are sorted from easy to hard."""

    def __init__(self, problems: Sequence[Problem], seed: int, start: float, iterations: int) -> None:
        self.problems, self.seed, self.start, self.iterations = problems, seed, start, iterations

    def size(self, iteration: int) -> int:
        """The number of problems that iteration draws from."""
        share = self.start + (1 - self.start) * min(1.0, iteration / self.iterations)
        return max(1, ceil(round(share * len(self.problems), 9)))  # 0.6 of 5 are 3, whatever the rounding

    def take(self, iteration: int, start: int, count: int) -> list[Problem]:
        draw, size = random.Random(seed_of(self.seed, "curriculum", iteration)), self.size(iteration)
        places: list[int] = []
        while len(places) < count:  # more than one pass where an iteration has more prompts than there are problems
            places += draw.sample(range(size), min(size, count - len(places)))
        return [self.problems[place] for place in places]


@dataclass(frozen=True)
class ByPassRate:
    """Preference for problems that the policy sometimes solves, by the run's own results.

    A problem is drawn with a weight of p · (1 − p), the variance of its success, without repetition inside the
    iteration. Its pass rate p is estimated as (correct + 1) / (sampled + 2), in which results of earlier visits count
    half as much with every further visit; a problem that was not visited yet has p = 1/2 and the largest weight.
    """

    def order(self, problems: Sequence[Problem], seed: int, shuffle: bool) -> Order:
        return SometimesSolved(problems, seed)


class SometimesSolved:
    """The order of `ByPassRate`. `counts` are the discounted numbers of correct and of sampled responses by key."""

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self.problems, self.seed = problems, seed
        self.counts: dict[str, tuple[float, float]] = {}
        self._keys = {problem.key for problem in problems}
        self._heard: tuple[int, Mapping[str, Successes]] | None = None

    def pass_rate(self, key: str) -> float:
        """The estimated share of correct responses to a problem."""
        correct, sampled = self.counts.get(key, (0.0, 0.0))
        return (correct + 1) / (sampled + 2)

    def take(self, iteration: int, start: int, count: int) -> list[Problem]:
        self._settle(iteration)
        draw = random.Random(seed_of(self.seed, "curriculum", iteration))
        # The smallest of exponential times with the weights as rates: a weighted draw without repetition.
        times = [(-log(1 - draw.random()) / self._weight(problem.key), n) for n, problem in enumerate(self.problems)]
        first = [self.problems[n] for _, n in nsmallest(count, times)]
        return [first[n % len(first)] for n in range(count)]

    def learn(self, iteration: int, successes: Mapping[str, Successes]) -> None:
        # Kept apart until the next iteration: one that a signal interrupts before its update is computed again.
        self._heard = (iteration, {key: found for key, found in successes.items() if key in self._keys})

    def state(self, iteration: int) -> OrderState:
        self._settle(iteration)
        return {key: list(numbers) for key, numbers in self.counts.items()}

    def restore(self, state: OrderState) -> None:
        self._heard = None
        self.counts = {key: (numbers[0], numbers[1]) for key, numbers in state.items() if key in self._keys}

    def _weight(self, key: str) -> float:
        rate = self.pass_rate(key)
        return rate * (1 - rate)

    def _settle(self, iteration: int) -> None:
        """Count what was heard of earlier iterations than `iteration`."""
        if self._heard is None or self._heard[0] >= iteration:
            return
        for key, found in self._heard[1].items():
            correct, sampled = self.counts.get(key, (0.0, 0.0))
            self.counts[key] = (correct / 2 + found.correct, sampled / 2 + found.sampled)
        self._heard = None
