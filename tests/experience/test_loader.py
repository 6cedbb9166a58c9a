"""The train loader: one collection per iteration, its micro-batches, and what it reports of them."""

from contextlib import nullcontext

import torch

from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.experience.loader import ExperienceLoader
from winnow.experience.metrics import Clock
from winnow.ops.aggregate import sequence_mean
from winnow.types import MicroBatch, Pair, Row


def row(length: int) -> Row:
    """A prompt of two tokens and a response of `length`."""
    return Row((1,) * (2 + length), 2, torch.ones(2 + length))


class Source:
    """A source of the same experience in each iteration, which records how it is called."""

    def __init__(self, experience: Experience) -> None:
        self.experience = experience
        self.asked: list[int] = []
        self.with_gradients: list[bool] = []

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        self.asked.append(iteration)
        self.with_gradients.append(torch.is_grad_enabled())
        return self.experience


def loader(source: Source, minibatches: int = 2, epochs: int = 2) -> ExperienceLoader:
    plan = Plan(minibatches, epochs, budget=TokenBudget(100, packed=True), aggregate=sequence_mean, seed=0)
    return ExperienceLoader(source, plan, Clock(), nullcontext)


def test_each_iteration_collects_once_for_all_its_epochs():
    source = Source(Experience([row(n) for n in (1, 2, 3, 4)], [False] * 4))
    found = loader(source)
    assert source.asked == []
    for iteration in (0, 1):
        found.iteration = iteration
        assert len([*found]) == 4
    assert source.asked == [0, 1]
    assert source.with_gradients == [False, False]
    assert torch.is_grad_enabled()


def test_every_row_occurs_once_per_epoch_in_an_order_of_the_iteration():
    source = Source(Experience([row(n) for n in range(1, 9)], [False] * 8))
    found = loader(source)

    def lengths(iteration: int) -> list[list[int]]:
        found.iteration = iteration
        return [batch.terms.response.sum(1).tolist() for batch in found if isinstance(batch, MicroBatch)]

    first, second = lengths(0), lengths(1)
    assert sorted(first[0] + first[1]) == sorted(first[2] + first[3]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert first != second
    assert lengths(0) == first


def test_without_a_kept_row_there_is_no_batch():
    found = loader(Source(Experience([], [])))
    assert [*found] == []
    assert found.outcome is not None
    assert (found.outcome.dealt, found.outcome.skipped, found.outcome.tokens_trained) == ([], 4, 0)


def test_tokens_trained_are_the_response_tokens_of_each_epoch():
    found = loader(Source(Experience([row(n) for n in (1, 2, 3, 4)], [False] * 4)))
    assert len([*found]) == 4
    assert found.outcome is not None
    assert (found.outcome.skipped, found.outcome.tokens_trained) == (0, 2 * 10)


def test_tokens_trained_are_those_of_both_sides_of_a_pair():
    found = loader(Source(Experience([Pair(row(3), row(5))], [False])), minibatches=1, epochs=1)
    assert len([*found]) == 1
    assert found.outcome is not None
    assert found.outcome.tokens_trained == 8


def test_tokens_trained_are_not_those_of_rows_without_a_gradient():
    """One optimiser batch an epoch; the rows of 2 and 4 tokens have no gradient."""
    rows = [row(n) for n in (1, 2, 3, 4)]
    found = loader(Source(Experience(rows, [False, True, False, True])), minibatches=1)
    assert [sorted(batch.terms.response.sum(1).tolist()) for batch in found if isinstance(batch, MicroBatch)] == [
        [1, 3],
        [1, 3],
    ]
    assert found.outcome is not None
    assert (found.outcome.skipped, found.outcome.tokens_trained) == (0, 2 * (1 + 3))


def test_batches_without_a_gradient_are_skipped_and_their_tokens_not_trained():
    """Four optimiser batches of one row each, of which only the row of 3 tokens has a gradient."""
    found = loader(
        Source(Experience([row(n) for n in (1, 2, 3, 4)], [True, True, False, True])), minibatches=4, epochs=1
    )
    assert [batch.terms.response.sum(1).tolist() for batch in found if isinstance(batch, MicroBatch)] == [[3]]
    assert found.outcome is not None
    assert (found.outcome.dealt, found.outcome.skipped, found.outcome.tokens_trained) == ([[2]], 3, 3)


def test_collecting_is_over_before_the_first_batch():
    """The context (autocast) is for sampling; the trainer has its own for the training step."""
    open_now: list[bool] = []
    source = Source(Experience([row(1), row(2)], [False] * 2))
    inside = [False]

    class Collecting(nullcontext):
        def __enter__(self) -> None:
            inside[0] = True

        def __exit__(self, *_: object) -> None:
            inside[0] = False

    plan = Plan(1, 1, budget=TokenBudget(100, packed=True), aggregate=sequence_mean, seed=0)

    def noting(iteration: int, clock: Clock) -> Experience:
        open_now.append(inside[0])
        return source(iteration, clock)

    for _ in ExperienceLoader(noting, plan, Clock(), Collecting):
        open_now.append(inside[0])
    assert open_now == [True, False]
