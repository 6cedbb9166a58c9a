import math

import pytest
import torch

from winnow.ops.logprobs import token_entropies, token_logprobs

# Three tokens over a vocabulary of two; logits of positions 0 and 1 predict tokens 1 and 2.
TOKENS = torch.tensor([[0, 1, 0]])
LOGITS = torch.tensor([[[0.0, math.log(3.0)], [math.log(4.0), 0.0]]])


def test_position_s_speaks_about_token_s():
    assert token_logprobs(LOGITS, TOKENS, 1.0).tolist()[0] == pytest.approx([0, math.log(0.75), math.log(0.8)])


def test_temperature_divides_the_logits():
    # At T = 0.5 the odds square: 9 to 1 and 16 to 1.
    assert token_logprobs(LOGITS, TOKENS, 0.5).tolist()[0] == pytest.approx([0, math.log(0.9), math.log(16 / 17)])


def test_only_the_last_positions_are_needed():
    assert token_logprobs(LOGITS[:, 1:], TOKENS, 1.0).tolist()[0] == pytest.approx([0, 0, math.log(0.8)])


def test_entropy_of_a_fair_coin_is_log_two():
    entropy = token_entropies(torch.zeros(1, 2, 2), 3, 1.0)
    assert entropy.tolist()[0] == pytest.approx([0, math.log(2), math.log(2)])
