"""Value loss, explained variance, DPO loss and aggregations against values computed by hand."""

import math

import pytest
import torch

from winnow.ops import aggregate
from winnow.ops.preference import sigmoid
from winnow.ops.value import clipped_value_loss, explained_variance


def test_value_loss_takes_the_worse_of_value_and_clipped_value():
    values, old, returns = torch.tensor([[1.0, 0.3]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    # first: value is exact but moved 1.0 > 0.5, so the clipped 0.5 counts: ½·0.25; second: ½·0.49
    assert clipped_value_loss(values, old, returns, clip=0.5).tolist()[0] == pytest.approx([0.125, 0.245])


def test_explained_variance_of_a_perfect_and_a_constant_critic():
    returns, response = torch.tensor([[1.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert explained_variance(returns, returns, response) == 1
    assert explained_variance(torch.zeros(1, 2), returns, response) == 0


def test_explained_variance_of_returns_that_are_the_rounding_of_values_is_zero():
    values = torch.tensor([[0.5, -0.25, 0.125]])
    returns = torch.tensor([[3e-8, -2e-8, 0.0]])
    assert explained_variance(values, returns, torch.ones(1, 3, dtype=torch.bool)) == 0.0


def test_explained_variance_of_returns_that_do_not_vary_is_zero():
    """The returns, a sum of rounded advantages and values, are −1 only up to 1e-7."""
    returns, values = torch.tensor([[-1.0, -1.0000001]]), torch.tensor([[0.1, -0.3]])
    assert explained_variance(values, returns, torch.ones(1, 2, dtype=torch.bool)) == 0


def test_dpo_at_margin_zero_is_log_two_and_smoothing_is_symmetric():
    nothing, margin = torch.zeros(1), torch.tensor([3.0])
    assert sigmoid(nothing, nothing, beta=0.1).item() == pytest.approx(math.log(2))
    one, other = (sigmoid(*scores, 0.5, smoothing=0.5).item() for scores in ((margin, nothing), (nothing, margin)))
    assert one == pytest.approx(other)
    plain = -math.log(1 / (1 + math.exp(-1.5)))
    flipped = -math.log(1 / (1 + math.exp(1.5)))
    assert sigmoid(margin, nothing, 0.5, smoothing=0.1).item() == pytest.approx(0.9 * plain + 0.1 * flipped)


def test_aggregations_by_hand():
    """Responses of 1 and 3 tokens with terms 4 and (1, 1, 4): sequence mean (4 + 2)/2, token mean 10/4, sum 10/2."""
    lengths = torch.tensor([1, 3])
    terms = [torch.tensor([4.0]), torch.tensor([1.0, 1.0, 4.0])]

    def loss(rule, **settings) -> float:
        weight, count = rule(lengths, **settings)
        return float(sum(w * t.sum() for w, t in zip(weight, terms, strict=True)) / count.sum())

    assert loss(aggregate.sequence_mean) == 3
    assert loss(aggregate.token_mean) == 2.5
    assert loss(aggregate.sequence_sum) == 5
    assert loss(aggregate.constant_length, length=5) == 1
