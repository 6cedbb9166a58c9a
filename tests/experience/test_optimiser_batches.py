"""Division of an iteration's experience into optimiser batches and micro-batches."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from fakes import spelt
from learning import float64_policy, gradient, made_up_rows
from winnow.experience.batching import Experience, Plan, TokenBudget, deal
from winnow.objectives import PolicyObjective
from winnow.ops import clip, ratio
from winnow.ops.aggregate import sequence_mean, token_mean
from winnow.types import MicroBatch, Pair, PairBatch, Row


def row(length: int) -> Row:
    return Row((1,) * (length + 2), 2, torch.ones(length + 2))


def test_every_row_is_dealt_once_per_epoch_into_batches_of_equal_size():
    batches = deal(10, minibatches=4, epochs=2, seed=7)
    assert sorted(len(b) for b in batches[:4]) == [2, 2, 3, 3]
    assert sorted(i for b in batches[:4] for i in b) == list(range(10))
    assert sorted(i for b in batches[4:] for i in b) == list(range(10))
    assert batches[:4] != batches[4:]


def test_fewer_rows_than_batches_leave_some_empty():
    assert sorted(len(b) for b in deal(2, minibatches=4, epochs=1, seed=0)) == [0, 0, 1, 1]


def plan(token_budget: int, rule=sequence_mean, minibatches: int = 2, packed: bool = False) -> Plan:
    return Plan(minibatches, epochs=1, budget=TokenBudget(token_budget, packed), aggregate=rule, seed=0)


def micro_batches(
    plan: Plan, rows: Sequence[Row], dealt: list[list[int]], zero_gradient: Sequence[bool] | None = None
) -> list[MicroBatch]:
    experience = Experience(list(rows), [False] * len(rows) if zero_gradient is None else list(zero_gradient))
    found = list(plan.micro_batches(experience, dealt))
    assert all(isinstance(batch, MicroBatch) for batch in found)
    return [batch for batch in found if isinstance(batch, MicroBatch)]


def test_optimiser_batches_have_equally_many_micro_batches_and_their_own_denominators():
    rows = [row(n) for n in (1, 2, 3, 10, 1, 1)]
    terms = [batch.terms for batch in micro_batches(plan(8, token_mean), rows, [[0, 1, 2], [3, 4, 5]])]
    assert [b.num_micro_batches for b in terms] == [2] * 4
    assert [b.denominator for b in terms] == [6, 6, 12, 12]
    assert [int((b.response.sum(1) * b.row_weight).sum()) for b in terms] == [3, 3, 10, 2]


def test_a_missing_micro_batch_is_filled_at_weight_zero():
    rows = [row(n) for n in (9, 9, 1)]
    terms = [batch.terms for batch in micro_batches(plan(12), rows, [[0, 1], [2]])]
    assert [float(b.row_weight.sum()) for b in terms] == [1 / 9, 1 / 9, 1, 0]


def test_batches_without_a_gradient_are_not_stepped():
    experience = Experience([row(2) for _ in range(4)], zero_gradient=[True] * 4)
    assert plan(100).optimiser_batches(experience, iteration=0) == []
    experience = Experience([row(2) for _ in range(4)], zero_gradient=[True, True, True, False])
    assert len(plan(100).optimiser_batches(experience, iteration=0)) == 1


ADVANTAGES = [1.0, 0.0, -0.5, 0.0, 0.0, 2.0]
ROWS = made_up_rows(ADVANTAGES)
ZERO_GRADIENT = [advantage == 0 for advantage in ADVANTAGES]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("token_budget", [1, 20, 1000])
def test_rows_without_a_gradient_are_in_no_micro_batch_but_count_in_the_denominator(token_budget: int, packed: bool):
    lengths = sum(row.response_length for row in ROWS)
    for rule, denominator in ((sequence_mean, 6), (token_mean, lengths)):
        found = micro_batches(plan(token_budget, rule, packed=packed), ROWS, [list(range(6))], ZERO_GRADIENT)
        assert {batch.terms.denominator for batch in found} == {denominator}
        forwarded = [tokens for batch in found for tokens in spelt(batch.rows)]
        assert sorted(forwarded) == sorted(ROWS[i].token_ids for i in (0, 2, 5))


def test_the_filler_is_a_row_with_a_gradient():
    """Two optimiser batches, cut to single rows: 2 rows with a gradient, and 1 beside a shorter one without."""
    rows = [row(5), row(4), row(1), row(3)]
    found = micro_batches(plan(1), rows, [[0, 1], [2, 3]], [False, False, True, False])
    assert [batch.terms.response.sum(1).tolist() for batch in found] == [[5], [4], [3], [3]]
    assert [float(batch.terms.row_weight.sum()) for batch in found] == [1 / 5, 1 / 4, 1 / 3, 0]


@pytest.mark.parametrize("rule", [sequence_mean, token_mean])
@pytest.mark.parametrize("token_budget", [20, 1000])
@pytest.mark.parametrize("packed", [True, False])
def test_leaving_out_rows_without_a_gradient_does_not_change_the_gradient(packed: bool, token_budget: int, rule):
    policy = float64_policy(packed)
    objective = PolicyObjective(ratio.token, lambda r, a: clip.ppo(r, a, low=0.2, high=0.2), None, 0.0)
    forwarded = gradient(policy, objective, ROWS, rule, token_budget)
    left_out = gradient(policy, objective, ROWS, rule, token_budget, ZERO_GRADIENT)
    assert forwarded.abs().max() > 1e-3
    torch.testing.assert_close(left_out, forwarded, rtol=0, atol=1e-12)
    without = [row for row, zero_gradient in zip(ROWS, ZERO_GRADIENT, strict=True) if not zero_gradient]
    assert (gradient(policy, objective, without, rule, token_budget) - forwarded).abs().max() > 1e-3


@pytest.mark.parametrize("packed", [True, False])
def test_pairs_count_both_sides_and_stay_whole(packed: bool):
    plain = [dataclasses.replace(row, advantage=None) for row in ROWS]
    pairs = [Pair(plain[0], plain[3]), Pair(plain[1], plain[4]), Pair(plain[2], plain[5])]
    for token_budget in (1, 25, 1000):
        experience = Experience(pairs, [False] * 3)
        found = list(plan(token_budget, packed=packed).micro_batches(experience, [[0, 1, 2]]))
        sides: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for batch in found:
            assert isinstance(batch, PairBatch)
            assert batch.chosen.denominator == 3
            tokens = spelt(batch.rows)
            half = len(tokens) // 2
            sides += zip(tokens[:half], tokens[half:], strict=True)
        assert sorted(sides) == sorted((pair.chosen.token_ids, pair.rejected.token_ids) for pair in pairs)
    assert len(found) == 1
