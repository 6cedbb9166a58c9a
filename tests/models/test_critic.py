"""Critic: the value at a position is the expected return before its token is drawn."""

import pytest
import torch
from torch import nn

from learning import rows_of
from winnow.models.language_model import LanguageModel
from winnow.models.policy import Critic

TOKENS = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])


@pytest.fixture
def critic(small: LanguageModel) -> Critic:
    """A critic whose head is not zero, as that of a new critic is."""
    critic = Critic(small.model).double()
    torch.manual_seed(0)
    nn.init.normal_(critic.head.weight)
    nn.init.constant_(critic.head.bias, 0.5)
    return critic


@pytest.mark.parametrize("s", range(6))
def test_a_value_does_not_depend_on_its_own_token(critic: Critic, s: int):
    other = TOKENS.clone()
    other[:, s] += 1
    with torch.no_grad():
        before, after = critic(rows_of(TOKENS, 1)), critic(rows_of(other, 1))
    assert before.shape == TOKENS.shape
    torch.testing.assert_close(after[:, : s + 1], before[:, : s + 1], rtol=0, atol=1e-12)
    assert ((after - before)[:, s + 1 :].abs() > 1e-6).all()


def test_values_before_the_first_response_token_are_zero(critic: Critic):
    values = critic(rows_of(TOKENS, 1))
    assert values[:, 0].tolist() == [0.0, 0.0]
    assert (values[:, 1:].abs() > 1e-3).all()


def test_a_new_critic_is_zero_and_can_learn(small: LanguageModel):
    critic = Critic(small.model).double()
    values = critic(rows_of(TOKENS, 1))
    assert values.abs().max() == 0
    values.sum().backward()
    assert critic.head.bias.grad is not None
    # One for every position but the first of each row.
    assert critic.head.bias.grad.tolist() == [10.0]


def test_it_shares_no_weight_with_the_policy(small: LanguageModel):
    theirs = {p.data_ptr() for p in small.model.parameters()}
    assert not theirs & {p.data_ptr() for p in Critic(small.model).parameters()}


def test_values_are_not_left_in_bfloat16(small: LanguageModel):
    critic = Critic(small.model.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(rows_of(TOKENS, 1)).dtype == torch.float32
