"""Whether numbers differ by more than rounding, at any size and in both precisions."""

import pytest
import torch

from winnow.config.ranges import REWARD_ROUNDING
from winnow.ops.spread import rounding, tied

SIZES = (1e-6, 1e-3, 1.0, 1e3, 1e6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_equal_numbers_tie_however_they_were_rounded(dtype: torch.dtype, size: float):
    """0.7, and 0.7 less one unit in the last place, whatever they are multiplied by."""
    number = torch.tensor(0.7 * size, dtype=dtype)
    beside = number.nextafter(torch.zeros_like(number))
    assert tied(torch.stack([number, beside, number])[None], (1,)).tolist() == [[True]]
    assert tied(torch.zeros(1, 4, dtype=dtype), (1,)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_numbers_that_differ_by_a_part_in_a_hundred_thousand_do_not_tie(dtype: torch.dtype, size: float):
    rows = torch.tensor([[1.0, 1.0], [1.0, 1.00001], [1.0, -1.0]], dtype=dtype) * size
    assert tied(rows, (1,)).flatten().tolist() == [True, False, False]


def test_a_difference_of_large_numbers_is_judged_by_their_size():
    """1e-7 beside 0 is a difference; between numbers computed from 0.7s in float32 it is rounding."""
    left = torch.tensor([[0.0, 1e-7]])
    assert not tied(left, (1,)).any()
    assert tied(left, (1,), magnitude=torch.tensor(0.7)).all()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_do_not_tie(number: float):
    assert not tied(torch.tensor([[number, number]]), (1,)).any()


def test_rewards_are_refused_before_the_run_where_they_would_tie_in_it():
    assert rounding(torch.tensor(1.0)).item() == REWARD_ROUNDING
