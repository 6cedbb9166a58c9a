"""Paired differences and flips computed by hand, and coverage of the interval of the difference."""

import numpy as np
import pytest

from benchmarks.prompt_interval_coverage import SHAPES, difference_coverage
from winnow.evaluation.intervals import FlipTable, Interval, accuracy, flips, paired_difference


def rows(*prompts: str) -> np.ndarray:
    """`rows("10", "00")`: two prompts with two samples each, of which one is correct."""
    return np.array([[sample == "1" for sample in prompt] for prompt in prompts])


def test_difference_of_four_prompts_by_hand():
    """Differences ½, 0, 0, ½: ¼ ± 3.18245 · 0.288675 / 2."""
    a, b = rows("10", "00", "11", "00"), rows("11", "00", "11", "10")
    found = paired_difference(a, b)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.25, -0.20935, 0.70935), abs=1e-5)


def test_the_other_way_round_is_the_mirror_image():
    rng = np.random.default_rng(0)
    a, b = rng.random((30, 4)) < 0.3, rng.random((30, 1)) < 0.5
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert (there.estimate, there.low, there.high) == pytest.approx((-back.estimate, -back.high, -back.low))


def test_limits_end_where_differences_do():
    """For the differences 1 and 0, t on one degree of freedom alone would give ½ ± 6.4."""
    assert paired_difference(rows("0", "0"), rows("1", "0")) == Interval(0.5, -1.0, 1.0)


def test_agreement_on_thirty_prompts_is_not_certainty():
    """Agresti and Min: variance (0 + 1) / 32, so 0 ± 2.04523 · √(1/32) / √32 = 2.04523 / 32."""
    a = np.arange(30)[:, None] < 20
    found = paired_difference(a, a)
    assert (found.estimate, found.low, found.high) == pytest.approx((0, -0.063913, 0.063913), abs=1e-6)


def test_equal_differences_are_found_through_rounding():
    """3/3 − 2/3 and 1/3 − 0 differ in the last bit."""
    found = paired_difference(rows("110", "000"), rows("111", "100"))
    assert found.estimate == pytest.approx(1 / 3)
    assert found.high - found.low > 1


def test_one_prompt_says_nothing_of_others():
    assert paired_difference(rows("00"), rows("11")) == Interval(1.0, -1.0, 1.0)


def test_pairing_removes_what_prompts_have_in_common():
    """A and B differ on one prompt in a hundred: the interval is 0.0175 wide, that of each accuracy alone 0.087."""
    a = np.arange(500)[:, None] < 250
    b = np.arange(500)[:, None] < 255
    found = paired_difference(a, b)
    assert found.estimate == pytest.approx(0.01)
    assert found.high - found.low == pytest.approx(0.0175, abs=1e-4)
    assert accuracy(a).high - accuracy(a).low == pytest.approx(0.0875, abs=1e-3)


def test_flips_by_hand():
    """Half of the samples correct counts as solved. McNemar's test for 1 against 5: 2 · (1 + 6) / 2⁶."""
    a = rows("11", "10", *["00"] * 5, "00")
    b = rows("10", "00", *["01"] * 5, "00")
    assert flips(a, b) == FlipTable(both=1, only_a=1, only_b=5, neither=1, p_value=14 / 64)
    assert flips(a, a) == FlipTable(both=2, only_a=0, only_b=0, neither=6, p_value=1.0)


@pytest.mark.parametrize("samples", [1, 16])
@pytest.mark.parametrize(("shared", "gain"), [(0.0, 0.0), (0.8, 0.1)])
def test_coverage_of_the_difference(shared: float, gain: float, samples: int):
    """With 2000 repetitions the standard error of the coverage is half a per cent."""
    shape = SHAPES["Beta(1, 5): 17 %"]
    assert 0.93 <= difference_coverage(shape, shared, gain, 40, samples, repetitions=2000) <= 0.97


def test_other_prompts_cannot_be_paired():
    with pytest.raises(ValueError, match="A has 2 prompts and B has 3"):
        paired_difference(rows("1", "0"), rows("1", "0", "1"))
    with pytest.raises(ValueError, match="A has 2 prompts and B has 3"):
        flips(rows("1", "0"), rows("1", "0", "1"))
