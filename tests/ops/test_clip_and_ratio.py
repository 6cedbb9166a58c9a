"""Clipping rules and importance ratios: values and derivatives computed by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from winnow.ops import clip, ratio


def slope(rule, at: float, advantage: float, **settings: float) -> float:
    """The derivative of a token's surrogate by its ratio."""
    r = torch.tensor([[at]], requires_grad=True)
    rule(r, torch.tensor([[advantage]]), **settings).sum().backward()
    assert r.grad is not None
    return r.grad.item()


def test_ppo_cuts_off_the_gradient_only_past_the_bound_in_the_advantages_direction():
    bounds = {"low": 0.2, "high": 0.2}
    assert slope(clip.ppo, 1.5, 1.0, **bounds) == 0
    assert slope(clip.ppo, 1.5, -1.0, **bounds) == -1
    assert slope(clip.ppo, 0.5, -1.0, **bounds) == 0
    assert slope(clip.ppo, 0.5, 1.0, **bounds) == 1
    assert slope(clip.ppo, 1.5, 0.0, **bounds) == 0


def test_ratio_min_cuts_off_the_gradient_above_the_bound_for_either_sign():
    bounds = {"low": 0.2, "high": 0.2}
    assert slope(clip.ratio_min, 1.5, -1.0, **bounds) == 0
    assert slope(clip.ratio_min, 0.5, -1.0, **bounds) == -1
    assert slope(clip.ratio_min, 1.5, 1.0, **bounds) == 0


def test_dual_bounds_the_surrogate_of_a_negative_advantage():
    r, bad = torch.tensor([[5.0]]), torch.tensor([[-1.0]])
    assert clip.ppo(r, bad, 0.2, 0.2).item() == -5
    assert clip.dual(r, bad, 0.2, 0.2, c=3.0).item() == -3
    assert slope(clip.dual, 5.0, -1.0, low=0.2, high=0.2, c=3.0) == 0


def test_lower_bound_and_floor_have_no_effect_on_positive_advantages():
    r, good = torch.tensor([[0.1, 0.9, 1.1, 4.0]]), torch.ones(1, 4)
    reference = clip.ppo(r, good, 0.2, 0.2)
    assert torch.equal(clip.ppo(r, good, 0.9, 0.2), reference)
    assert torch.equal(clip.dual(r, good, 0.2, 0.2, 3.0), reference)


def test_clip_higher_raises_the_bound_for_positive_advantages():
    r, good = torch.tensor([[1.25]]), torch.ones(1, 1)
    assert clip.ppo(r, good, 0.2, 0.2).item() == pytest.approx(1.2)
    assert clip.ppo(r, good, 0.2, 0.28).item() == pytest.approx(1.25)


def test_cispo_weights_the_log_probability_by_the_clipped_ratio():
    logprob = torch.tensor([[math.log(0.5)]], requires_grad=True)
    old = torch.tensor([[math.log(0.25)]])
    clip.cispo((logprob - old).exp(), torch.tensor([[2.0]]), low=1.0, high=0.2).sum().backward()
    assert logprob.grad is not None
    assert logprob.grad.item() == pytest.approx(1.2 * 2.0)


def test_ratios_by_hand():
    logprobs = torch.tensor([[0.0, math.log(0.6), math.log(0.9)]])
    old = torch.tensor([[0.0, math.log(0.3), math.log(0.3)]])
    response = torch.tensor([[False, True, True]])
    assert ratio.token(logprobs, old, response).tolist()[0] == pytest.approx([1, 2, 3])
    assert ratio.sequence_product(logprobs, old, response).tolist()[0] == pytest.approx([6, 6, 6])
    assert ratio.sequence(logprobs, old, response).tolist()[0] == pytest.approx([math.sqrt(6)] * 3)
    assert ratio.log_probability(logprobs, None, response) is logprobs


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", [ratio.token, ratio.sequence, ratio.sequence_product])
def test_a_log_probability_that_is_not_finite_is_not_hidden(rule: Callable[..., Tensor], value: float):
    """Neither in the ratio nor in its gradient, as clamping the log-ratio would."""
    logprobs = torch.tensor([[-1.0, value], [-2.0, -3.0]], requires_grad=True)
    found = rule(logprobs, torch.full((2, 2), -1.5), torch.ones(2, 2, dtype=torch.bool))
    found.sum().backward()
    assert logprobs.grad is not None
    assert found[0, 1].isnan()
    assert logprobs.grad[0, 1].isnan()
    assert found[1].isfinite().all()
    assert logprobs.grad[1].isfinite().all()


def test_a_correction_weight_that_is_not_a_number_stays_so():
    assert ratio.masked(torch.tensor([math.nan, 1.0, 9.0]), cap=2.0)[0].isnan()
