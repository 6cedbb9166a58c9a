"""Rows of a forward: packed, each token counts once; padded, each row as long as the longest."""

import random

import pytest

from winnow.experience.batching import TokenBudget
from winnow.packed import MAX_PROMPT_REPEATS
from winnow.types import Row

A, B = (1, 1, 1, 1), (2, 2)


def row(prompt: tuple[int, ...], response: int) -> tuple[Row]:
    return (Row(prompt + (9,) * response, len(prompt)),)


def test_padded_rows_count_as_the_longest():
    """Of 9, 4, 4 and 3 tokens: 9 are too many for 8 but go alone; twice 4 are 8; 3 would make it 12."""
    items = [row((1,), 2), row((1,), 8), row((1,), 3), row((1,), 3)]
    assert TokenBudget(8, packed=False).cut(items) == [[1], [2, 3], [0]]
    assert TokenBudget(12, packed=False).cut(items) == [[1], [2, 3, 0]]


def test_packed_a_prompt_counts_once():
    """Of prompt A, 4 tokens, responses of 5, 3 and 1: 9, then 12, then 13. Of B, 2 tokens: 6, and with the last of A 11."""
    items = [row(A, 1), row(B, 4), row(A, 5), row(A, 3)]
    assert TokenBudget(12, packed=True).cut(items) == [[2, 3], [1, 0]]
    assert TokenBudget(13, packed=True).cut(items) == [[2, 3, 0], [1]]
    assert TokenBudget(18, packed=True).cut(items) == [[2, 3, 0], [1]]
    assert TokenBudget(19, packed=True).cut(items) == [[2, 3, 1, 0]]


def test_and_is_counted_again_in_the_next_group():
    """4 + 5, then 4 + 5: a second group has to compute the prompt anew."""
    items = [row(A, 5), row(A, 5)]
    assert TokenBudget(13, packed=True).cut(items) == [[0], [1]]
    assert TokenBudget(14, packed=True).cut(items) == [[0, 1]]


def test_rows_of_one_prompt_stand_together_where_they_share_it():
    """Longest first would be A, B, A, B: packed, the shorter of A comes before the longer of B."""
    items = [row(B, 6), row(A, 5), row(B, 4), row(A, 1)]
    assert TokenBudget(100, packed=True).cut(items) == [[1, 0, 2, 3]]
    assert TokenBudget(10, packed=True).cut(items) == [[1, 3], [0], [2]]
    assert TokenBudget(9, packed=False).cut(items) == [[1], [0], [2], [3]]


def test_attention_repeats_a_prompt_only_so_often():
    """Of a prompt of 99 tokens and responses of 1: n rows are 99 + n tokens once, and 100 · n in attention."""
    items = [row((1,) * 99, 1)] * 20
    assert [len(group) for group in TokenBudget(200, packed=True).cut(items)] == [
        2 * MAX_PROMPT_REPEATS,
        2 * MAX_PROMPT_REPEATS,
        4,
    ]


def test_both_sides_of_a_pair_stay_together():
    """A and 5 + 3 of response are 12 packed, and padded 2 · 9."""
    pair, single = (*row(A, 5), *row(A, 3)), (*row(A, 1), *row(A, 1))
    assert TokenBudget(13, packed=True).cut([single, pair]) == [[1], [0]]
    assert TokenBudget(14, packed=True).cut([single, pair]) == [[1, 0]]
    assert TokenBudget(35, packed=False).cut([single, pair]) == [[1], [0]]
    assert TokenBudget(36, packed=False).cut([single, pair]) == [[1, 0]]


def once(rows: list[Row]) -> int:
    prompts = {row.token_ids[: row.prompt_length] for row in rows}
    return sum(map(len, prompts)) + sum(row.response_length for row in rows)


def padded(rows: list[Row]) -> int:
    return len(rows) * max(len(row.token_ids) for row in rows)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("tokens", [1, 20, 60, 1000])
def test_every_item_comes_once_in_groups_that_hold(tokens: int, packed: bool):
    draw = random.Random(tokens)
    prompts = [tuple(draw.randrange(9) for _ in range(draw.randrange(1, 9))) for _ in range(5)]
    items = [row(draw.choice(prompts), draw.randrange(1, 15)) for _ in range(60)]
    groups = TokenBudget(tokens, packed).cut(items)
    assert sorted(i for group in groups for i in group) == list(range(60))
    for group in groups:
        rows = [items[i][0] for i in group]
        lengths = [len(row.token_ids) for row in rows]
        assert lengths == sorted(lengths, reverse=True)  # they make full blocks
        fits = (
            once(rows) <= tokens and padded(rows) <= MAX_PROMPT_REPEATS * tokens if packed else padded(rows) <= tokens
        )
        assert fits or len(group) == 1


def test_nothing_makes_no_group():
    assert TokenBudget(10, packed=True).cut([]) == []
