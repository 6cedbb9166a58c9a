"""Packed rows: no padding, and each shared prompt once."""

import pytest
import torch

from fakes import spelt
from winnow.packed import MIN_BLOCK_FILL, Packed, pack
from winnow.types import Row

ROWS = [
    Row((3, 4, 5, 11, 12, 13, 14), 3),
    Row((3, 4, 5, 15), 3),
    Row((6, 16, 17), 1),
    Row((3, 4, 5, 11, 18), 3),
    Row((6, 19), 1),
]
"""Two prompts of 3 and 1 tokens; responses of 4, 1, 2, 2 and 1."""


def one(length: int) -> Row:
    return Row((1,) * length, 1)


def areas(rows: Packed) -> list[tuple[int, int]]:
    """For each block, the number of tokens in it and its area."""
    return [(sum(rows.lengths[first:end]), (end - first) * width) for first, end, width in rows.blocks]


def test_a_shared_prompt_is_computed_once_and_last_tokens_not_at_all():
    """4 prompt tokens and 10 response tokens, minus one for each of 5 rows."""
    rows = pack(ROWS)
    assert rows.tokens.tolist() == [[3, 4, 5, 11, 12, 13, 6, 16, 11]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 3]]
    assert rows.tokens.shape[1] == 4 + 10 - 5
    assert rows.lengths == (6, 3, 2, 4, 1)
    assert spelt(rows) == [row.token_ids for row in ROWS]


def test_each_target_is_predicted_from_the_token_before_it():
    rows = pack(ROWS)
    assert rows.targets.tolist() == [11, 12, 13, 14, 15, 16, 17, 11, 18, 19]
    assert rows.tokens[0, rows.sources].tolist() == [5, 11, 12, 13, 5, 6, 16, 5, 11, 6]
    assert rows.spread(rows.targets.float()).tolist() == [
        [0, 0, 0, 11, 12, 13, 14],
        [0, 0, 0, 15, 0, 0, 0],
        [0, 16, 17, 0, 0, 0, 0],
        [0, 0, 0, 11, 18, 0, 0],
        [0, 19, 0, 0, 0, 0, 0],
    ]


def test_a_token_is_owned_by_the_first_row_that_it_belongs_to():
    rows = pack(ROWS)
    assert rows.owner.tolist() == [0, 0, 0, 0, 0, 0, 2, 2, 3]
    for token, (owner, position) in enumerate(zip(rows.owner, rows.positions[0], strict=True)):
        assert rows.places[owner, position] == token


def test_prompts_that_only_begin_the_same_are_not_shared():
    """Their first tokens have the same context, but a prompt is shared as a whole or not at all."""
    assert pack([Row((3, 4, 11), 2), Row((3, 4, 5, 12), 3)]).tokens.tolist() == [[3, 4, 3, 4, 5]]


def test_right_padded_rows_have_no_last_token_either():
    padded = pack(ROWS).padded()
    assert padded.shape == (5, 6)
    for line, row in zip(padded.tolist(), ROWS, strict=True):
        assert line[: len(row.token_ids) - 1] == list(row.token_ids[:-1])


@pytest.mark.parametrize(
    ("lengths", "blocks"),
    [
        ([9], ((0, 1, 8),)),
        ([9, 9, 9], ((0, 3, 8),)),
        ([11, 9, 7, 7], ((0, 3, 10), (3, 4, 6))),  # 24 of 30 is 0.8; 30 of 40 is not
        ([3, 3, 11, 11], ((0, 2, 2), (2, 4, 10))),
        ([11, 3, 11], ((0, 1, 10), (1, 2, 2), (2, 3, 10))),
    ],
)
def test_blocks_have_little_padding(lengths: list[int], blocks: tuple[tuple[int, int, int], ...]):
    rows = pack([one(length) for length in lengths])
    assert rows.blocks == blocks
    assert all(tokens >= MIN_BLOCK_FILL * places for tokens, places in areas(rows))


def test_moving_moves_every_tensor():
    rows = pack(ROWS).to("meta")
    tensors = [getattr(rows, name) for name in Packed.__slots__ if isinstance(getattr(rows, name), torch.Tensor)]
    assert len(tensors) == 10
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert rows.lengths == (6, 3, 2, 4, 1)
