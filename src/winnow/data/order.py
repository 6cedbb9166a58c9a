"""Order of training problems: endless passes over a dataset, and several datasets mixed in given shares.

An order is a function of the seed and of names, so that all arms of a seed see the same problems. What depends on the
run's own results is its `state`, which checkpoints keep.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from winnow.data.problems import Problem
from winnow.rng import permutation, seed_of


class Successes(NamedTuple):
    """Correct responses to a problem, out of those that were sampled."""

    correct: int
    sampled: int


OrderState = dict[str, list[float]]
"""Numbers by problem's key, which an order has learnt from the run."""


class Order(Protocol):
    """Interface of orders. `start` counts the problems that were taken before, `iteration` from 0."""

    def take(self, iteration: int, start: int, count: int) -> list[Problem]:
        """The `count` problems of an iteration. Until the next one is asked for, the same call gives the same."""
        ...

    def learn(self, iteration: int, successes: Mapping[str, Successes]) -> None:
        """Hear of the results of an iteration, by key. They count from the next iteration on."""
        ...

    def state(self, iteration: int) -> OrderState:
        """The knowledge from the first `iteration` iterations."""
        ...

    def restore(self, state: OrderState) -> None:
        """Go on from a `state`."""
        ...


class Unlearning:
    """The part of orders that follow from the seed alone: they learn nothing."""

    def learn(self, iteration: int, successes: Mapping[str, Successes]) -> None:
        """Results change nothing."""

    def state(self, iteration: int) -> OrderState:
        return {}

    def restore(self, state: OrderState) -> None:
        """There is nothing to restore."""


class Passes(Unlearning):
    """Endless passes over the problems, each shuffled by seed and pass, or unshuffled."""

    def __init__(self, problems: Sequence[Problem], seed: int, shuffle: bool = True) -> None:
        self.problems, self.seed, self.shuffle = problems, seed, shuffle
        self._pass = lru_cache(maxsize=2)(self._order)

    def _order(self, number: int) -> Sequence[int]:
        if not self.shuffle:
            return range(len(self.problems))
        return permutation(seed_of(self.seed, "order", number), len(self.problems))

    def take(self, iteration: int, start: int, count: int) -> list[Problem]:
        size = len(self.problems)
        return [self.problems[self._pass(place // size)[place % size]] for place in range(start, start + count)]


class Mixed:
    """Problems of several datasets, each in its own order, in given shares.

    Each place goes to the dataset that is furthest behind its share, so that among the first n problems every dataset
    has its share of n up to one problem or so. Shares 2 and 1 give a, b, a, a, b, a, ….
    """

    def __init__(self, orders: Mapping[str, Order], shares: Mapping[str, float]) -> None:
        total = sum(shares.values())
        self.orders = dict(orders)
        self._shares = [shares[name] / total for name in self.orders]
        self._places: list[int] = []
        self._taken = [0] * len(self._shares)

    def take(self, iteration: int, start: int, count: int) -> list[Problem]:
        self._extend(start + count)
        here = self._places[start : start + count]
        found = [
            iter(order.take(iteration, self._places[:start].count(part), here.count(part)))
            for part, order in enumerate(self.orders.values())
        ]
        return [next(found[part]) for part in here]

    def learn(self, iteration: int, successes: Mapping[str, Successes]) -> None:
        for order in self.orders.values():
            order.learn(iteration, successes)

    def state(self, iteration: int) -> OrderState:
        return {key: numbers for order in self.orders.values() for key, numbers in order.state(iteration).items()}

    def restore(self, state: OrderState) -> None:
        for order in self.orders.values():
            order.restore(state)

    def _extend(self, places: int) -> None:
        while len(self._places) < places:
            number = len(self._places) + 1
            behind = [number * share - taken for share, taken in zip(self._shares, self._taken, strict=True)]
            part = max(range(len(behind)), key=behind.__getitem__)
            self._taken[part] += 1
            self._places.append(part)
