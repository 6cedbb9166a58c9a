"""Finiteness of many tensors at once."""

import math

import pytest
import torch

from winnow.finite import all_finite, finite_rows, nonfinite_names


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_is_enough(value: float):
    bad = torch.tensor([[1.0, 2.0], [3.0, value]])
    assert not all_finite([torch.ones(3), bad])
    assert finite_rows(torch.zeros(2), bad, None).tolist() == [True, False]
    assert nonfinite_names([("a", torch.ones(1)), ("b", bad), ("c", torch.tensor([1]))]) == ["b"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_numbers_are_finite(dtype: torch.dtype):
    """The sum of two of them is not."""
    assert all_finite([torch.full((2,), torch.finfo(dtype).max, dtype=dtype), torch.zeros(0), torch.ones(())])
    assert all_finite([])
