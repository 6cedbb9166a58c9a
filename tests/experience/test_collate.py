import torch

from winnow.experience.collate import collate, collate_pairs
from winnow.types import Pair, Row

LONG = Row(
    token_ids=(11, 12, 13, 4, 2),
    prompt_length=3,
    advantage=torch.tensor([0, 0, 0, 1.0, 1.0]),
    old_logprobs=torch.tensor([0, 0, 0, -0.4, -0.2]),
    ref_logprobs=torch.tensor([0, 0, 0, -1.0, -0.6]),
    values=torch.tensor([0, 0, 0, 0.4, 0.2]),
    returns=torch.tensor([0, 0, 0, 0.9, 0.9]),
)
SHORT = Row(
    token_ids=(14, 7, 2),
    prompt_length=1,
    advantage=torch.tensor([0, -0.5, -0.5]),
    old_logprobs=torch.tensor([0, -0.7, -0.2]),
    values=torch.tensor([0, 0.7, 0.2]),
    returns=torch.tensor([0, -0.3, -0.3]),
)
PAD = 19


def test_rows_of_different_lengths():
    weight = torch.tensor([0.5, 0.25])
    batch = collate([LONG, SHORT], weight, denominator=7.0, parts=3, pad_id=PAD)
    assert batch.tokens.tolist() == [[11, 12, 13, 4, 2], [14, 7, 2, PAD, PAD]]
    assert batch.response.tolist() == [[False, False, False, True, True], [False, True, True, False, False]]
    assert (batch.row_weight.tolist(), batch.denominator, batch.parts) == ([0.5, 0.25], 7.0, 3)


def test_start_is_the_shortest_prompt():
    """Where the forward may skip positions: a later start would leave out response tokens of the short prompt."""
    for rows in ([LONG, SHORT], [SHORT, LONG]):
        batch = collate(rows, torch.ones(2), 2.0, 1, PAD)
        assert batch.start == 1
        assert not batch.response[:, : batch.start].any()
    assert collate([LONG], torch.ones(1), 1.0, 1, PAD).start == 3


def test_numbers_are_padded_with_zeros_and_keep_to_their_field():
    batch = collate([LONG, SHORT], torch.ones(2), 2.0, 1, PAD)
    expected = {
        "advantages": [[0, 0, 0, 1.0, 1.0], [0, -0.5, -0.5, 0, 0]],
        "old_logprobs": [[0, 0, 0, -0.4, -0.2], [0, -0.7, -0.2, 0, 0]],
        "values": [[0, 0, 0, 0.4, 0.2], [0, 0.7, 0.2, 0, 0]],
        "returns": [[0, 0, 0, 0.9, 0.9], [0, -0.3, -0.3, 0, 0]],
    }
    for name, numbers in expected.items():
        torch.testing.assert_close(getattr(batch, name), torch.tensor(numbers))


def test_a_field_that_one_row_lacks_is_absent():
    for rows in ([LONG, SHORT], [SHORT, LONG]):
        assert collate(rows, torch.ones(2), 2.0, 1, PAD).ref_logprobs is None
    alone = collate([LONG], torch.ones(1), 1.0, 1, PAD).ref_logprobs
    torch.testing.assert_close(alone, torch.tensor([[0, 0, 0, -1.0, -0.6]]))


def test_both_sides_of_a_pair_keep_their_place():
    batch = collate_pairs([Pair(LONG, SHORT), Pair(SHORT, SHORT)], torch.tensor([1.0, 0.0]), 2.0, 1, PAD)
    assert batch.chosen.tokens.tolist() == [[11, 12, 13, 4, 2], [14, 7, 2, PAD, PAD]]
    assert batch.rejected.tokens.tolist() == [[14, 7, 2], [14, 7, 2]]
    assert (batch.chosen.start, batch.rejected.start) == (1, 1)
    assert batch.chosen.row_weight.tolist() == batch.rejected.row_weight.tolist() == [1, 0]
