"""Advantage estimators against values computed by hand."""

import math

import pytest
import torch

from winnow.ops import advantage

ONE_OF_FOUR = torch.tensor([[1.0, 0, 0, 0]])


def test_grpo_levels_for_four_samples():
    """One right: 1.5 and −0.5; two: ±0.866; three: 0.5 and −1.5; none or all: 0 (unbiased std, eps 1e-6)."""
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    levels = advantage.group(rewards)
    assert levels[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    assert levels[1].tolist() == pytest.approx([0.8660, 0.8660, -0.8660, -0.8660], abs=1e-4)
    assert levels[2].tolist() == pytest.approx([0.5, 0.5, 0.5, -1.5], abs=1e-5)
    assert levels[3:].abs().max() == 0


def test_centre_and_scale_are_independent():
    assert advantage.group(ONE_OF_FOUR, centre="mean", scale="none").tolist() == [[0.75, -0.25, -0.25, -0.25]]
    leave_one_out = advantage.group(ONE_OF_FOUR, centre="leave_one_out", scale="none")
    assert leave_one_out.tolist()[0] == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    assert advantage.group(ONE_OF_FOUR, centre="none", scale="std")[0, 0] == pytest.approx(2.0, abs=1e-4)


def test_whitened_uses_all_samples_of_the_iteration():
    white = advantage.whitened(torch.tensor([[1.0, 1], [-1, -1]]))
    assert white.tolist() == [
        pytest.approx([math.sqrt(3) / 2] * 2, abs=1e-5),
        pytest.approx([-math.sqrt(3) / 2] * 2, abs=1e-5),
    ]


def test_signed_weights_positive_and_negative_rewards_separately():
    assert advantage.signed(torch.tensor([[1.0, -1.0]]), w_pos=0.1, w_neg=1.0).tolist() == [[pytest.approx(0.1), -1.0]]


def test_gae_by_hand():
    """Two response tokens after one of prompt, reward 1 at the end, γ = 0.9, λ = 0.5.

    δ₂ = 1 − 0.6 = 0.4; δ₁ = 0.9·0.6 − 0.5 = 0.04; A₁ = 0.04 + 0.45·0.4 = 0.22; returns are A + V.
    """
    rewards = torch.tensor([[0.0, 0.0, 1.0]])
    values = torch.tensor([[9.0, 0.5, 0.6]])
    response = torch.tensor([[False, True, True]])
    a, returns = advantage.gae(rewards, values, response, gamma=0.9, lam=0.5)
    assert a.tolist()[0] == pytest.approx([0.0, 0.22, 0.4])
    assert returns.tolist()[0] == pytest.approx([0.0, 0.72, 1.0])


def test_gae_without_discount_is_the_return_minus_the_value():
    """γ = λ = 1, the paper's PPO. Padding after a short response has no effect."""
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, -1.0]])
    values = torch.tensor([[0.0, 0.2, 0.3, 7.0], [0.0, 0.1, 0.2, 0.3]])
    response = torch.tensor([[False, True, True, False], [False, True, True, True]])
    a, returns = advantage.gae(rewards, values, response)
    assert a[0].tolist() == pytest.approx([0, 0.8, 0.7, 0])
    assert a[1].tolist() == pytest.approx([0, -1.1, -1.2, -1.3])
    assert returns[1].tolist() == pytest.approx([0, -1, -1, -1])


def test_whiten_tokens_uses_response_tokens_only():
    a = torch.tensor([[5.0, 1.0, 3.0]])
    white = advantage.whiten_tokens(a, torch.tensor([[False, True, True]]))
    assert white.tolist()[0] == pytest.approx([0, -1 / math.sqrt(2), 1 / math.sqrt(2)])
