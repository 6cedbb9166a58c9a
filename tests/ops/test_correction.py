"""Correction weights from the ratio of trainer to sampler."""

import torch

from winnow.ops import clip
from winnow.ops.ratio import masked, truncated, uncorrected

RATIO = torch.tensor([0.1, 0.5, 1.0, 2.0, 2.5, 8.0])


def test_uncorrected_is_one():
    assert uncorrected(RATIO).tolist() == [1, 1, 1, 1, 1, 1]


def test_truncated_is_the_ratio_up_to_the_cap():
    torch.testing.assert_close(truncated(RATIO, 2.0), torch.tensor([0.1, 0.5, 1.0, 2.0, 2.0, 2.0]))


def test_masked_is_the_ratio_within_its_bounds_inclusive():
    torch.testing.assert_close(masked(RATIO, cap=2.5, floor=0.5), torch.tensor([0.0, 0.5, 1.0, 2.0, 2.5, 0.0]))
    torch.testing.assert_close(masked(RATIO, cap=2.0), torch.tensor([0.1, 0.5, 1.0, 2.0, 0.0, 0.0]))


def test_a_truncated_estimate_is_unbiased_below_the_cap():
    """Probabilities ½ and ½ in the sampler, ¾ and ¼ in the trainer; the true mean is 0.75 · 4 + 0.25 · 8 = 5."""
    sampler, trainer, surrogate = torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25]), torch.tensor([4.0, 8.0])
    ratio = trainer / sampler
    assert (sampler * uncorrected(ratio) * surrogate).sum() == 6
    assert (sampler * truncated(ratio, 2.0) * surrogate).sum() == 5
    assert (sampler * truncated(ratio, 1.0) * surrogate).sum() == 4  # 0.5 · 1 · 4 + 0.5 · 0.5 · 8
    assert (sampler * masked(ratio, cap=1.0) * surrogate).sum() == 2  # 0.5 · 0.5 · 8


def test_a_weight_on_the_advantage_is_a_weight_on_the_surrogate():
    """Clipping rules are homogeneous in the advantage, so that a correction may multiply the advantage instead."""
    ratio, advantage, weight = torch.rand(64, 8) * 3, torch.randn(64, 8), torch.rand(64, 8) * 2
    bounds = {"low": 0.2, "high": 0.3}
    for rule in (
        clip.unclipped,
        lambda r, a: clip.ppo(r, a, **bounds),
        lambda r, a: clip.ratio_min(r, a, **bounds),
        lambda r, a: clip.dual(r, a, **bounds, c=2.0),
        lambda r, a: clip.cispo(r, a, **bounds),
    ):
        torch.testing.assert_close(rule(ratio, weight * advantage), weight * rule(ratio, advantage))
