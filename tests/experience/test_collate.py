"""Collation of rows and pairs into micro-batches."""

import torch

from fakes import spelt
from winnow.experience.batching import collate, collate_pairs
from winnow.types import Pair, Row

LONG = Row(
    token_ids=(11, 12, 13, 4, 2),
    prompt_length=3,
    advantage=torch.tensor([0, 0, 0, 1.0, 1.0]),
    old_logprobs=torch.tensor([0, 0, 0, -0.4, -0.2]),
    ref_logprobs=torch.tensor([0, 0, 0, -1.0, -0.6]),
    values=torch.tensor([0, 0, 0, 0.4, 0.2]),
    returns=torch.tensor([0, 0, 0, 0.9, 0.9]),
    sampler_logprobs=torch.tensor([0, 0, 0, -0.5, -0.1]),
)
SHORT = Row(
    token_ids=(14, 7, 2),
    prompt_length=1,
    advantage=torch.tensor([0, -0.5, -0.5]),
    old_logprobs=torch.tensor([0, -0.7, -0.2]),
    values=torch.tensor([0, 0.7, 0.2]),
    returns=torch.tensor([0, -0.3, -0.3]),
    sampler_logprobs=torch.tensor([0, -0.6, -0.3]),
)


def test_rows_of_different_lengths():
    weight = torch.tensor([0.5, 0.25])
    batch = collate([LONG, SHORT], weight, denominator=7.0, num_micro_batches=3)
    assert spelt(batch.rows) == [LONG.token_ids, SHORT.token_ids]
    terms = batch.terms
    assert terms.response.tolist() == [[False, False, False, True, True], [False, True, True, False, False]]
    assert (terms.row_weight.tolist(), terms.denominator, terms.num_micro_batches) == ([0.5, 0.25], 7.0, 3)


def test_predictions_are_placed_on_response_tokens():
    """Packed rows and loss terms have the same mask; a forward's numbers are placed on response tokens only."""
    for rows in ([LONG, SHORT], [SHORT, LONG], [LONG]):
        batch = collate(rows, torch.ones(len(rows)), 2.0, 1)
        assert torch.equal(batch.rows.response, batch.terms.response)
        numbers = batch.rows.spread(torch.ones(len(batch.rows.targets)))
        assert torch.equal(numbers == 1, batch.terms.response)


def test_tensors_are_padded_with_zeros_and_stay_in_their_field():
    terms = collate([LONG, SHORT], torch.ones(2), 2.0, 1).terms
    expected = {
        "advantages": [[0, 0, 0, 1.0, 1.0], [0, -0.5, -0.5, 0, 0]],
        "old_logprobs": [[0, 0, 0, -0.4, -0.2], [0, -0.7, -0.2, 0, 0]],
        "sampler_logprobs": [[0, 0, 0, -0.5, -0.1], [0, -0.6, -0.3, 0, 0]],
        "values": [[0, 0, 0, 0.4, 0.2], [0, 0.7, 0.2, 0, 0]],
        "returns": [[0, 0, 0, 0.9, 0.9], [0, -0.3, -0.3, 0, 0]],
    }
    for name, numbers in expected.items():
        torch.testing.assert_close(getattr(terms, name), torch.tensor(numbers))


def test_a_field_that_one_row_lacks_is_absent():
    for rows in ([LONG, SHORT], [SHORT, LONG]):
        assert collate(rows, torch.ones(2), 2.0, 1).terms.ref_logprobs is None
    alone = collate([LONG], torch.ones(1), 1.0, 1).terms.ref_logprobs
    torch.testing.assert_close(alone, torch.tensor([[0, 0, 0, -1.0, -0.6]]))


def test_chosen_and_rejected_rows_keep_their_order():
    batch = collate_pairs([Pair(LONG, SHORT), Pair(SHORT, SHORT)], torch.tensor([1.0, 0.0]), 2.0, 1)
    assert spelt(batch.rows) == [LONG.token_ids, SHORT.token_ids, SHORT.token_ids, SHORT.token_ids]
    chosen, rejected = batch.rows.response.chunk(2)
    assert torch.equal(chosen, batch.chosen.response)
    assert torch.equal(rejected, batch.rejected.response)
    assert batch.chosen.row_weight.tolist() == batch.rejected.row_weight.tolist() == [1, 0]
