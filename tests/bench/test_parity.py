"""Losses of TRL and of Winnow on the same numbers: TRL's own where it is installed, and those that were recorded."""

import json
from importlib.util import find_spec

import pytest
import torch

from benchmarks.parity.__main__ import PAGE, RECORDED
from benchmarks.parity.cases import CASES, PREFERENCE, Case, both, differences, figures
from benchmarks.parity.numbers import numbers
from benchmarks.parity.our_side import our_loss
from benchmarks.parity.preference import our_pair_loss

with_trl = pytest.mark.skipif(find_spec("trl") is None, reason="no TRL: type pip install -e '.[bench]'")


@with_trl
@pytest.mark.parametrize("case", [*CASES, *PREFERENCE], ids=lambda case: case.name)
def test_both_losses_and_gradients_are_equal(case: Case):
    """TRL's float64 and ours agree to rounding; a case whose losses differ by design has equal gradients."""
    value, gradient = differences(*both(case, numbers(3)))
    assert gradient < 1e-10
    assert (value < 1e-10) == case.value, case.note


@pytest.mark.parametrize("case", [*CASES, *PREFERENCE], ids=lambda case: case.name)
def test_the_page_has_every_case(case: Case):
    row = f"| {case.name} | " + " ".join(f"`{name}={given}`" for name, given in case.trl.items())
    row = row.replace("['", "").replace("']", "")
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith(row))
    assert all(f"`{word}`" in line for word in case.words)


@pytest.mark.parametrize("case", [*CASES, *PREFERENCE], ids=lambda case: case.name)
def test_our_losses_are_those_that_were_recorded_of_trl(case: Case):
    ours = (
        our_pair_loss(case.words, numbers())
        if case.pairs
        else our_loss(case.words, case.given(numbers()), case.weights)
    )
    value, *slopes = figures(ours)
    theirs, *expected = json.loads(RECORDED.read_text())[case.name]
    assert slopes == pytest.approx(expected, rel=1e-10)
    if case.value:
        assert value == pytest.approx(theirs, rel=1e-10)


def test_our_token_mean_is_the_same_in_any_micro_batches():
    """As TRL's `bnpo` is not (docs/parity.md)."""
    words = ("algo=grpo", "algo/aggregate=token_mean")
    whole, parts = (our_loss(words, numbers(), budget=budget) for budget in (1000, 8))
    torch.testing.assert_close(parts.gradient, whole.gradient, rtol=0, atol=1e-12)
