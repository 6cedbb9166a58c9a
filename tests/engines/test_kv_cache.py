"""The appending key-value cache against concatenation, through growth, joining and dropping of rows."""

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from winnow.engines.decoding import AppendingLayer, appending_cache, can_join

from .models import tiny


def states(positions: int, rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 2, positions, 3, generator=torch.Generator().manual_seed(seed))


def test_appending_equals_concatenating_through_growth_repetition_and_removal() -> None:
    ours, theirs = AppendingLayer(), DynamicLayer()
    rows = 3
    for step, positions in enumerate([5] + [1] * 40):
        if step == 1:
            rows = 6
            select = torch.tensor([0, 0, 0, 1, 2, 2])
        elif step == 20:
            rows = 2
            select = torch.tensor([4, 1])
        else:
            select = torch.arange(rows)
        if step > 0:
            ours.reorder_cache(select)
            theirs.reorder_cache(select)  # pyright: ignore[reportArgumentType]
        keys, values = states(positions, rows, step), states(positions, rows, 1000 + step)
        for mine, other in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=0)
        assert ours.get_seq_length() == theirs.get_seq_length() == 5 + step
        assert ours.get_mask_sizes(1) == theirs.get_mask_sizes(1)


def test_a_step_writes_in_place() -> None:
    layer = AppendingLayer()
    layer.update(states(100, 2, 0), states(100, 2, 1))
    before = layer.update(states(1, 2, 2), states(1, 2, 3))[0].data_ptr()
    addresses = {layer.update(states(1, 2, n), states(1, 2, n))[0].data_ptr() for n in range(5)}
    assert addresses == {before}  # the first 100 positions came with room for 100 // 16 = 6 more


def test_keys_are_kept_in_the_dtype_of_the_values() -> None:
    layer = AppendingLayer()
    layer.update(states(2, 1, 0), states(2, 1, 1).bfloat16())
    keys, values = layer.update(states(1, 1, 0), states(1, 1, 1).bfloat16())
    assert (keys.dtype, values.dtype) == (torch.bfloat16, torch.bfloat16)


def test_only_full_attention_layers_are_replaced() -> None:
    kinds = [type(layer).__name__ for layer in appending_cache(tiny("qwen2_sliding").config).layers]
    assert kinds == ["AppendingLayer", "DynamicSlidingWindowLayer"]


def test_rows_that_join_end_where_the_others_end() -> None:
    """The shorter are padded with zeros on the left; then all grow at one column, and common padding is dropped."""
    ours, theirs = AppendingLayer(), AppendingLayer()
    mine, new = states(7, 2, 0), states(3, 1, 1)
    ours.update(mine, -mine)
    theirs.update(new, -new)
    ours.join(theirs)
    padded = torch.nn.functional.pad(new, (0, 0, 4, 0))
    assert torch.equal(ours.keys, torch.cat([mine, padded]))
    assert torch.equal(ours.values, -torch.cat([mine, padded]))
    step = states(1, 3, 2)
    keys, values = ours.update(step, -step)
    assert torch.equal(keys, torch.cat([torch.cat([mine, padded]), step], dim=2))
    ours.reorder_cache(torch.tensor([2]))
    ours.drop_first(4)
    assert torch.equal(ours.keys, torch.cat([new, step[2:]], dim=2))
    assert (ours.get_seq_length(), ours.get_mask_sizes(1)[0]) == (4, 5)
    for n in range(20):  # through growth
        more = states(1, 1, 3 + n)
        keys, values = ours.update(more, -more)
        assert torch.equal(keys[:, :, -1:], more)
        assert torch.equal(values, -keys)
    assert torch.equal(keys[:, :, :3], new)


def test_the_shorter_batch_may_be_the_one_that_is_joined() -> None:
    ours, theirs = AppendingLayer(), AppendingLayer()
    ours.update(states(2, 1, 0), states(2, 1, 1))
    theirs.update(states(5, 2, 2), states(5, 2, 3))
    ours.join(theirs)
    assert torch.equal(ours.keys[0, :, 3:], states(2, 1, 0)[0])
    assert not ours.keys[0, :, :3].any()
    assert torch.equal(ours.values[1:], states(5, 2, 3))


def test_only_caches_that_keep_everything_can_join() -> None:
    assert can_join(appending_cache(tiny("llama").config))
    assert not can_join(appending_cache(tiny("qwen2_sliding").config))
