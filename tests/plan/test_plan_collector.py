"""Samples that a planned collector draws, by hand, where 0 to 4 correct samples of a prompt are equally likely."""

import pytest

from running import composed
from winnow.assemble.plan_collector import collected
from winnow.assemble.planning import equally_likely

WORDS = ("rollout.prompts=4", "rollout.samples=4")


def planned(*words: str):
    return collected(composed(*WORDS, *words), equally_likely(4))


def test_a_fixed_collector_draws_what_it_trains_on():
    found = planned()
    assert (found.prompts, found.samples, found.passed_on, found.words) == (4, 4, 1.0, "")


def test_refill_draws_whole_rounds_until_enough_are_mixed():
    """Three of five prompts are mixed: 4 / 0.6 = 6.7 prompts are two rounds of four, of which half is trained on."""
    found = planned("collector=refill")
    assert (found.prompts, found.samples, found.passed_on) == (8, 4, 0.5)
    assert len(found.teaching) == 3
    assert "60% of the prompts are mixed, so that 8 are drawn in 2 rounds of 4" in found.words
    least = planned("collector=refill", "collector.rounds=1", "collector.prompts=5")
    assert (least.prompts, least.passed_on) == (5, pytest.approx(3 / 5))


def test_adaptive_goes_on_where_a_round_is_not_enough():
    """Rounds of four, two at most, until one is correct: a second one with the probability (1 − p)⁴.

    For p = 0, 1/4, 1/2, 3/4, 1 that is 1, 81/256, 16/256, 1/256, 0: on average 354/1280 rounds more, 5.1 samples.
    """
    words = ("collector.rounds=2", "collector.samples=4", "collector.goal=positives")
    found = planned("collector=adaptive", *words)
    assert found.samples == 5
    assert found.passed_on == 4 / 5


def test_budgets_draw_before_and_divide_after():
    found = planned("collector=budgets", "collector.presamples=12")
    assert (found.prompts, found.samples, found.passed_on) == (4, 16, 1 / 4)
    assert len(found.teaching) == 4
