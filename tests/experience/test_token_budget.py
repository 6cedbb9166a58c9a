"""Cutting items to a token budget: packed, each token counts once; padded, each row counts as long as the longest."""

import random

import pytest

from winnow.experience.batching import TokenBudget
from winnow.packed import MAX_PROMPT_REPEATS
from winnow.types import Row

A, B = (1, 1, 1, 1), (2, 2)


def row(prompt: tuple[int, ...], response: int) -> tuple[Row]:
    return (Row(prompt + (9,) * response, len(prompt)),)


def test_padded_rows_count_as_the_longest():
    """Rows of 9, 4, 4 and 3 tokens: 9 exceed a budget of 8 but go alone; two of 4 make 8; adding 3 would make it 12."""
    items = [row((1,), 2), row((1,), 8), row((1,), 3), row((1,), 3)]
    assert TokenBudget(8, packed=False).cut(items) == [[1], [2, 3], [0]]
    assert TokenBudget(12, packed=False).cut(items) == [[1], [2, 3, 0]]


def test_packed_a_prompt_counts_once():
    """A (4 tokens) with responses of 5, 3 and 1 makes 9, 12, 13; B (2) with 4 makes 6, and 11 with the last of A."""
    items = [row(A, 1), row(B, 4), row(A, 5), row(A, 3)]
    assert TokenBudget(12, packed=True).cut(items) == [[2, 3], [1, 0]]
    assert TokenBudget(13, packed=True).cut(items) == [[2, 3, 0], [1]]
    assert TokenBudget(18, packed=True).cut(items) == [[2, 3, 0], [1]]
    assert TokenBudget(19, packed=True).cut(items) == [[2, 3, 1, 0]]


def test_a_prompt_counts_again_in_the_next_group():
    """4 + 5, then 4 + 5: a second group has to compute the prompt again."""
    items = [row(A, 5), row(A, 5)]
    assert TokenBudget(13, packed=True).cut(items) == [[0], [1]]
    assert TokenBudget(14, packed=True).cut(items) == [[0, 1]]


def test_rows_of_one_prompt_are_neighbours_if_packed():
    """Padded, rows are taken longest first: A, B, B, A. Packed, both rows of A are taken before those of B."""
    items = [row(B, 6), row(A, 5), row(B, 4), row(A, 1)]
    assert TokenBudget(100, packed=True).cut(items) == [[1, 0, 2, 3]]
    assert TokenBudget(10, packed=True).cut(items) == [[1, 3], [0], [2]]
    assert TokenBudget(9, packed=False).cut(items) == [[1], [0], [2], [3]]


def test_the_repetitions_of_a_prompt_in_attention_are_bounded():
    """With a prompt of 99 tokens and responses of 1, n rows are 99 + n tokens once, and 100 · n in attention."""
    items = [row((1,) * 99, 1)] * 20
    assert [len(group) for group in TokenBudget(200, packed=True).cut(items)] == [
        2 * MAX_PROMPT_REPEATS,
        2 * MAX_PROMPT_REPEATS,
        4,
    ]


def test_both_sides_of_a_pair_stay_together():
    """A with responses of 5 and 3 makes 12 tokens packed, and 2 · 9 padded."""
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
def test_every_item_is_in_one_group_within_the_budget(tokens: int, packed: bool):
    draw = random.Random(tokens)
    prompts = [tuple(draw.randrange(9) for _ in range(draw.randrange(1, 9))) for _ in range(5)]
    items = [row(draw.choice(prompts), draw.randrange(1, 15)) for _ in range(60)]
    groups = TokenBudget(tokens, packed).cut(items)
    assert sorted(i for group in groups for i in group) == list(range(60))
    for group in groups:
        rows = [items[i][0] for i in group]
        lengths = [len(row.token_ids) for row in rows]
        assert lengths == sorted(lengths, reverse=True)  # for well-filled attention blocks
        fits = (
            once(rows) <= tokens and padded(rows) <= MAX_PROMPT_REPEATS * tokens if packed else padded(rows) <= tokens
        )
        assert fits or len(group) == 1


def test_no_item_makes_no_group():
    assert TokenBudget(10, packed=True).cut([]) == []
