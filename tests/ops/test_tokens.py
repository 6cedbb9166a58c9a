"""Which tokens of an iteration keep their advantage."""

import pytest
import torch

from winnow.ops import tokens

ENTROPIES = torch.tensor([[9.0, 0.1, 0.5], [9.0, 0.4, 0.3]])
RESPONSE = torch.tensor([[False, True, True], [False, True, True]])


def test_the_tokens_of_the_highest_entropy_among_those_of_responses():
    """Of 0.1, 0.5, 0.4 and 0.3; the 9s stand on prompts."""
    for share, expected in ((0.25, [0.5]), (0.5, [0.5, 0.4]), (1.0, [0.1, 0.5, 0.4, 0.3]), (0.01, [0.5])):
        kept = tokens.top_entropy(ENTROPIES, RESPONSE, share)
        assert ENTROPIES[kept].tolist() == pytest.approx(expected)
        assert not kept[:, 0].any()


def test_all_tokens_but_those_of_the_highest_covariance():
    """log π of −1, −3, −1 and −3.5 with A of 1, 1, −1 and −1: their means are −2.125 and 0."""
    logprobs = torch.tensor([[0.0, -1.0, -3.0], [0.0, -1.0, -3.5]])
    advantage = torch.tensor([[0.0, 1.0, 1.0], [0.0, -1.0, -1.0]])
    # The products are 1.125, −0.875, −1.125 and 1.375.
    found = tokens.low_covariance(ENTROPIES, RESPONSE, logprobs, advantage, share=0.25)
    assert found.tolist() == [[False, True, True], [False, True, False]]
    more = tokens.low_covariance(ENTROPIES, RESPONSE, logprobs, advantage, share=0.5)
    assert more.tolist() == [[False, False, True], [False, True, False]]


@pytest.mark.parametrize("of", [1.0, 0.7])
def test_no_token_is_left_out_where_all_advantages_are_equal(of: float):
    """Every product is 0 then, as with algo=raftpp: none makes entropy fall more than another."""
    logprobs = torch.tensor([[0.0, -1.0, -3.0], [0.0, -1.0, -3.5]])
    found = tokens.low_covariance(ENTROPIES, RESPONSE, logprobs, torch.full((2, 3), of), share=0.5)
    assert found.equal(RESPONSE)


def test_every_token_of_every_response():
    assert tokens.every_token(ENTROPIES, RESPONSE).equal(RESPONSE)


def test_the_order_of_rows_and_the_scale_of_advantages_change_nothing():
    draw = torch.Generator().manual_seed(0)
    entropies, logprobs, advantage = torch.randn(3, 8, 5, generator=draw)
    response = torch.ones(8, 5, dtype=torch.bool)
    order = torch.randperm(8, generator=draw)
    for rule, scaled in (
        (lambda e, logp, a: tokens.top_entropy(e, response, 0.3), advantage),
        (lambda e, logp, a: tokens.low_covariance(e, response, logp, a, 0.3), 4 * advantage),
    ):
        kept = rule(entropies, logprobs, advantage)
        assert rule(entropies[order], logprobs[order], advantage[order]).equal(kept[order])
        assert rule(entropies, logprobs, scaled).equal(kept)
