"""Advantage estimators against values computed by hand."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

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


DTYPES = (torch.float32, torch.float64)
SIZES = (1e-6, 1.0, 1e6)
CENTRES = ("none", "mean", "leave_one_out")
STANDARDISED: dict[str, Callable[..., Tensor]] = {
    "whitened": advantage.whitened,
    **{f"group-{centre}": partial(advantage.group, centre=centre) for centre in CENTRES},
}


def almost(number: float, samples: int, dtype: torch.dtype) -> Tensor:
    """One prompt whose samples all have the reward `number`, of which every second was computed another way."""
    rewards = torch.full((1, samples), number, dtype=dtype)
    rewards[:, 1::2] = rewards[:, 1::2].nextafter(torch.zeros_like(rewards[:, 1::2]))
    return rewards


@pytest.mark.parametrize("rule", STANDARDISED.values(), ids=STANDARDISED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("samples", [1, 2, 8, 13])
def test_rewards_that_tie_give_no_advantage_under_any_centre_with_a_scale(rule, dtype, size: float, samples: int):
    for level in (-1.0, 0.7, 1 / 3):
        assert rule(torch.full((1, samples), level * size, dtype=dtype)).tolist() == [[0.0] * samples]
        assert rule(almost(level * size, samples, dtype)).tolist() == [[0.0] * samples]


PENALTY = [0.25, 0.0, 0.5, 0.25]


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("level", [-1.0, 0.0, 0.7])
@pytest.mark.parametrize("scale", ["std", "none"])
def test_where_rewards_tie_a_penalty_enters_with_its_own_size(size: float, level: float, scale: str):
    """The mean of the penalties is ¼; that of the others is ¼, ⅓, ⅙ and ¼."""
    rewards, penalty = torch.full((1, 4), level), torch.tensor([PENALTY]) * size
    expected = {"mean": [0, 0.25, -0.25, 0], "leave_one_out": [0, 1 / 3, -1 / 3, 0]}
    for centre, found in expected.items():
        advantages = advantage.group(rewards, penalty, centre=centre, scale=scale)  # pyright: ignore[reportArgumentType]
        assert (advantages / size).tolist()[0] == pytest.approx(found, abs=1e-6)
    if scale == "std":
        uncentred = advantage.group(rewards, penalty, centre="none")
        assert (uncentred / size).tolist()[0] == pytest.approx([-p for p in PENALTY], abs=1e-6)
        assert (advantage.whitened(rewards, penalty) / size).tolist()[0] == pytest.approx([0, 0.25, -0.25, 0], abs=1e-6)


KL_OF_RESPONSES = torch.arange(8).view(1, 8) * 2 / 21
"""Eight KLs from 0 to ⅔, whose mean is ⅓; over their standard deviation of 0.233 the farthest is 1.43 from it."""


@pytest.mark.parametrize("coefficient", [0.001, 0.1])
@pytest.mark.parametrize("level", [-1.0, 0.7])
def test_on_a_prompt_whose_rewards_tie_the_coefficient_of_the_kl_decides_how_much_it_counts(
    coefficient: float, level: float
):
    """Standardised, the advantages would be ±1.43 for both coefficients, as the coefficient would cancel."""
    rewards, penalty = torch.full((1, 8), level), coefficient * KL_OF_RESPONSES
    largest = float(advantage.group(rewards, penalty).abs().max())
    assert largest == pytest.approx(coefficient / 3, rel=1e-6)  # 3.3e-4 and 3.3e-2
    assert float(penalty.sub(penalty.mean()).div(penalty.std()).abs().max()) == pytest.approx(1.4289, rel=1e-4)


def test_eight_rewards_of_one_have_no_advantage_without_a_centre():
    """Over a standard deviation of 0 + 1e-6 each would have an advantage of a million."""
    assert advantage.group(torch.ones(1, 8), centre="none", scale="std").tolist() == [[0.0] * 8]


def test_rewards_and_penalties_that_both_tie_leave_exactly_nothing():
    """0.7 minus the mean of three 0.7s is 6e-8 in float32, of which AdamW would make whole steps."""
    for rule in (advantage.group, partial(advantage.group, scale="none"), advantage.whitened):
        assert not rule(torch.full((1, 3), -1.0), torch.full((1, 3), 0.7)).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_penalty", [False, True])
def test_where_rewards_differ_the_formulas_hold_to_the_last_bit(dtype: torch.dtype, size: float, with_penalty: bool):
    rewards = torch.rand(50, 8, dtype=dtype, generator=torch.Generator().manual_seed(0)) * size
    penalty = (
        torch.rand(50, 8, dtype=dtype, generator=torch.Generator().manual_seed(1)) * size if with_penalty else None
    )
    r = rewards if penalty is None else rewards - penalty
    mean, std = r.mean(1, keepdim=True), r.std(1, keepdim=True) + 1e-6
    others = (r.sum(1, keepdim=True) - r) / 7
    for centre, centred in {"none": r, "mean": r - mean, "leave_one_out": r - others}.items():
        scaled = advantage.group(rewards, penalty, centre=centre)  # pyright: ignore[reportArgumentType]
        unscaled = advantage.group(rewards, penalty, centre=centre, scale="none")  # pyright: ignore[reportArgumentType]
        assert torch.equal(scaled, centred / std)
        assert torch.equal(unscaled, centred)
    assert torch.equal(advantage.whitened(rewards, penalty), (r - r.mean()) / (r.std() + 1e-6))
    assert torch.equal(advantage.reward(rewards, penalty), r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [-0.7, 1 / 3, 7e-6, 7e5])
def test_tokens_whose_advantages_tie_are_whitened_to_nothing(dtype: torch.dtype, level: float):
    """Minus their mean, equal advantages of −0.7 leave 6e-8; over √ε that is 6e-4."""
    response = torch.ones(3, 41, dtype=torch.bool)
    response[:, :5] = False
    advantages = torch.full((3, 41), level, dtype=dtype) * response
    assert not advantage.whiten_tokens(advantages, response).any()


def test_whitening_of_tokens_holds_to_the_last_bit_where_they_differ():
    advantages = torch.rand(3, 41, generator=torch.Generator().manual_seed(0))
    response = torch.rand(3, 41, generator=torch.Generator().manual_seed(1)) > 0.3
    inside = advantages[response]
    expected = (advantages - inside.mean()) / (inside.var() + 1e-8).sqrt() * response
    assert torch.equal(advantage.whiten_tokens(advantages, response), expected)
