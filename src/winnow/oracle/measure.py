"""Bias and variance of an estimator: its mean over every iteration that can be drawn, against the true gradient."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import torch
from jaxtyping import Float
from torch import Tensor

Estimator = Callable[[Sequence[Sequence[int]]], Tensor]
"""The numbers of each prompt's responses → an estimate of the gradient."""
Drawn = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Moments:
    """The mean of an estimator and its total variance, over `count` iterations that are all there are, or drawn ones.

    `total_variance` sums over the parameters. `error` is the standard error of the mean's length: 0 where all
    iterations were enumerated.
    """

    mean: Tensor
    total_variance: float
    count: int
    error: float = 0.0

    def against(self, truth: Tensor) -> "Measured":
        """The mean compared with the true gradient."""
        return Measured(truth.flatten(), self.mean.flatten(), self.total_variance, self.error)


@dataclass(frozen=True)
class Measured:
    """An estimator against the truth."""

    truth: Float[Tensor, " n"]
    mean: Float[Tensor, " n"]
    total_variance: float
    error: float

    @property
    def scale(self) -> float:
        """The length of the mean along the truth, over that of the truth: 1 where it is neither shrunk nor stretched.

        An optimiser such as Adam is indifferent to it.
        """
        return float(self.mean @ self.truth / (self.truth @ self.truth))

    @property
    def cosine(self) -> float:
        """The cosine of the angle between mean and truth: 1 where no direction is distorted."""
        lengths = float(self.mean.norm() * self.truth.norm())
        return float(self.mean @ self.truth) / lengths if lengths else 0.0

    @property
    def bias(self) -> float:
        """‖mean − truth‖ / ‖truth‖."""
        return float((self.mean - self.truth).norm() / self.truth.norm())

    @property
    def noise(self) -> float:
        """The standard deviation of one iteration's estimate over the length of the mean."""
        length = float(self.mean.norm())
        return math.sqrt(self.total_variance) / length if length else math.inf


def iterations(probabilities: Float[Tensor, "p n"], samples: int) -> Iterator[tuple[Drawn, float]]:
    """Every iteration of `samples` responses a prompt that can be drawn, with its probability.

    The order of a prompt's samples is no part of it: for each multiset there is one iteration, with the probability of
    all its orders.
    """
    of_prompt = [list(_groups(row.tolist(), samples)) for row in probabilities]
    for groups in product(*of_prompt):
        yield tuple(group for group, _ in groups), math.prod(probability for _, probability in groups)


def _groups(probabilities: Sequence[float], samples: int) -> Iterator[tuple[tuple[int, ...], float]]:
    for group in combinations_with_replacement(range(len(probabilities)), samples):
        orders = math.factorial(samples) // math.prod(math.factorial(count) for count in Counter(group).values())
        if (probability := orders * math.prod(probabilities[number] for number in group)) > 0:
            yield group, probability


def number_of_iterations(responses: int, prompts: int, samples: int) -> int:
    """The number of iterations that `iterations` gives where every response has a probability above 0."""
    return math.comb(responses + samples - 1, samples) ** prompts


def enumerated(estimator: Estimator, probabilities: Float[Tensor, "p n"], samples: int) -> Moments:
    """The exact moments of an estimator: the sum over every iteration that can be drawn."""
    mean, square, count = torch.zeros(()), 0.0, 0
    for drawn, probability in iterations(probabilities, samples):
        estimate = estimator(drawn)
        mean, square = mean + probability * estimate, square + probability * float(estimate.square().sum())
        count += 1
    return Moments(mean, max(square - float(mean.square().sum()), 0.0), count)


def sampled(estimator: Estimator, probabilities: Float[Tensor, "p n"], samples: int, draws: int, seed: int) -> Moments:
    """The moments over `draws` iterations that are drawn, for environments with too many to enumerate."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.multinomial(probabilities, samples, replacement=True, generator=generator) for _ in range(draws))
    return of_draws([estimator([tuple(group) for group in groups.tolist()]) for groups in drawn])


def of_draws(estimates: Sequence[Tensor]) -> Moments:
    """The moments of an estimator by its estimates in iterations that were drawn."""
    every = torch.stack(list(estimates)).flatten(1)
    variance = float(every.var(0).sum())
    return Moments(every.mean(0), variance, len(every), math.sqrt(variance / len(every)))
