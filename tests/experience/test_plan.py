import torch

from winnow.experience.experience import Experience
from winnow.experience.plan import Plan, deal, within_budget
from winnow.ops.aggregate import sequence_mean, token_mean
from winnow.types import Batch, Row


def row(length: int) -> Row:
    return Row((1,) * (length + 2), 2, torch.ones(length + 2))


def test_every_row_is_dealt_once_an_epoch_into_even_batches():
    batches = deal(10, minibatches=4, epochs=2, seed=7)
    assert sorted(len(b) for b in batches[:4]) == [2, 2, 3, 3]
    assert sorted(i for b in batches[:4] for i in b) == list(range(10))
    assert sorted(i for b in batches[4:] for i in b) == list(range(10))
    assert batches[:4] != batches[4:]


def test_fewer_rows_than_batches_leave_some_empty():
    assert sorted(len(b) for b in deal(2, minibatches=4, epochs=1, seed=0)) == [0, 0, 1, 1]


def test_budget_counts_padded_tokens_and_always_admits_one_row():
    assert within_budget([3, 9, 4, 4], token_budget=8) == [[1], [2, 3], [0]]


def plan(token_budget: int, rule=sequence_mean, minibatches: int = 2) -> Plan:
    return Plan(minibatches, epochs=1, token_budget=token_budget, aggregate=rule, seed=0, pad_id=0)


def test_each_optimiser_batch_has_as_many_micro_batches_and_its_own_denominator():
    rows = [row(n) for n in (1, 2, 3, 10, 1, 1)]
    experience = Experience(rows, [False] * 6)
    dealt = [[0, 1, 2], [3, 4, 5]]
    batches = [b for b in plan(8, token_mean).micro_batches(experience, dealt) if isinstance(b, Batch)]
    assert [b.parts for b in batches] == [2] * 4
    assert [b.denominator for b in batches] == [6, 6, 12, 12]
    assert [int((b.response.sum(1) * b.row_weight).sum()) for b in batches] == [3, 3, 10, 2]


def test_a_missing_micro_batch_is_filled_at_weight_zero():
    rows = [row(n) for n in (9, 9, 1)]
    experience = Experience(rows, [False] * 3)
    batches = [b for b in plan(12).micro_batches(experience, [[0, 1], [2]]) if isinstance(b, Batch)]
    assert [float(b.row_weight.sum()) for b in batches] == [1 / 9, 1 / 9, 1, 0]


def test_batches_without_a_gradient_are_not_stepped():
    experience = Experience([row(2) for _ in range(4)], inert=[True] * 4)
    assert plan(100).optimiser_batches(experience, iteration=0) == []
    experience = Experience([row(2) for _ in range(4)], inert=[True, True, True, False])
    assert len(plan(100).optimiser_batches(experience, iteration=0)) == 1
