"""Dealing, budget cutting and packing, for any numbers of rows and any lengths."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from winnow.experience.batching import TokenBudget, deal
from winnow.packed import MAX_PROMPT_REPEATS, pack
from winnow.types import Row

TOKENS = st.integers(0, 9)
PROMPTS = st.lists(TOKENS, min_size=1, max_size=5).map(tuple)
RESPONSES = st.lists(TOKENS, min_size=1, max_size=7).map(tuple)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Up to 12 rows over up to 4 prompts, so that prompts do recur."""
    prompts = draw(st.lists(PROMPTS, min_size=1, max_size=4))
    drawn = draw(st.lists(st.tuples(st.sampled_from(prompts), RESPONSES), min_size=1, max_size=12))
    return [Row(prompt + response, len(prompt)) for prompt, response in drawn]


@given(count=st.integers(0, 60), minibatches=st.integers(1, 9), epochs=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_an_epoch_deals_every_row_once_into_batches_of_equal_size(count: int, minibatches: int, epochs: int, seed: int):
    batches = deal(count, minibatches, epochs, seed)
    assert len(batches) == minibatches * epochs
    for epoch in range(epochs):
        of_epoch = batches[epoch * minibatches : (epoch + 1) * minibatches]
        assert sorted(i for batch in of_epoch for i in batch) == list(range(count))
        assert max(map(len, of_epoch)) - min(map(len, of_epoch)) <= 1


@given(items=rows(), tokens=st.integers(1, 40), packed=st.booleans())
def test_micro_batches_hold_every_row_once_and_stay_within_the_budget(items: list[Row], tokens: int, packed: bool):
    groups = TokenBudget(tokens, packed).cut([(row,) for row in items])
    assert sorted(i for group in groups for i in group) == list(range(len(items)))
    for group in groups:
        inside = [items[i] for i in group]
        padded = len(inside) * max(len(row.token_ids) for row in inside)
        prompts = {row.token_ids[: row.prompt_length] for row in inside}
        computed = sum(map(len, prompts)) + sum(row.response_length for row in inside)
        fits = (computed <= tokens and padded <= MAX_PROMPT_REPEATS * tokens) if packed else padded <= tokens
        assert fits or len(group) == 1


@given(items=rows())
def test_packed_rows_can_be_spelt_again_and_share_their_prompts(items: list[Row]):
    packed = pack(items)
    targets = packed.spread(packed.targets.float())
    for i, row in enumerate(items):
        assert tuple(packed.padded()[i, : len(row.token_ids) - 1].tolist()) == row.token_ids[:-1]
        response = packed.response[i].nonzero().flatten()
        assert response.tolist() == list(range(row.prompt_length, len(row.token_ids)))
        assert tuple(targets[i, response].long().tolist()) == row.token_ids[row.prompt_length :]
    prompts = {row.token_ids[: row.prompt_length] for row in items}
    computed = sum(map(len, prompts)) + sum(row.response_length - 1 for row in items)
    assert packed.tokens.shape == (1, computed)
    assert torch.equal(packed.positions[0, packed.places[0, : packed.lengths[0]]], torch.arange(packed.lengths[0]))
