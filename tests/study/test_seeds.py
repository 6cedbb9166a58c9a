"""Intervals over seeds on figures that can be checked by hand or against a table of Student's t."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from benchmarks.seed_interval_coverage import (
    bootstrap_coverage,
    draw,
    false_claims,
    paired_coverage,
    power,
    single_coverage,
    truth,
)
from winnow.study.statistics import (
    PERCENT,
    POSITIVE,
    SHARE,
    UNBOUNDED,
    Bounds,
    NoInterval,
    detectable_difference,
    holm,
    over_seeds,
    paired_by_prompt,
    paired_difference,
    paired_ratio,
)


def test_three_runs_by_hand():
    estimate = over_seeds([1.0, 2.0, 3.0])  # sd 1, t(2) = 4.3027
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert estimate.high - 2 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert 2 - estimate.low == pytest.approx(estimate.high - 2)


@pytest.mark.parametrize(
    ("values", "why"), [([], "fewer"), ([0.9], "fewer"), ([0.9, 0.9], "identical"), ([1.0, math.nan], "not finite")]
)
def test_no_interval_where_there_is_none(values: list[float], why: str):
    with pytest.raises(NoInterval, match=why):
        over_seeds(values)


def test_pairs_are_those_of_common_seeds():
    a, b = {0: 1.0, 1: 2.0, 2: 3.0, 7: 99.0}, {2: 6.0, 1: 4.0, 0: 2.0, 8: -99.0}  # differences 1, 2, 3
    difference = paired_difference(a, b)
    assert (difference.mean, difference.n, difference.sd) == (2.0, 3, 1.0)
    assert difference.p == pytest.approx(ttest_rel([2, 4, 6], [1, 2, 3]).pvalue)
    assert difference.low < 0 < difference.high  # 2 ± 2.48


def test_what_a_seed_brings_to_both_cancels():
    seeds = {seed: 10.0 * seed for seed in range(5)}
    more = {seed: value + 1 + 0.1 * (-1) ** seed for seed, value in seeds.items()}
    difference = paired_difference(seeds, more)
    assert 0.8 < difference.low < difference.high < 1.3  # the spread of the seeds themselves is 16


def test_the_same_difference_everywhere_is_no_evidence():
    with pytest.raises(NoInterval, match="identical"):
        paired_difference({0: 0.1, 1: 0.2, 2: 0.7}, {0: 0.3, 1: 0.4, 2: 0.9})  # 0.2 each, up to rounding


def test_half_and_twice_are_equally_far():
    halves, doubles = {0: 1.0, 1: 1.0, 2: 1.0}, {0: 2.0, 1: 2.2, 2: 1.8}
    up, down = paired_ratio(halves, doubles), paired_ratio(doubles, halves)
    assert up.mean == pytest.approx((2.0 * 2.2 * 1.8) ** (1 / 3))
    assert (down.mean, down.low, down.high) == pytest.approx((1 / up.mean, 1 / up.high, 1 / up.low))
    assert up.p == pytest.approx(down.p)


def test_no_logarithm_of_nothing():
    assert paired_ratio({0: 1.0, 1: 1.0, 2: 1.0}, {0: 2.0, 1: 3.0, 2: 0.0}).n == 2


def test_over_prompts_seeds_are_averaged_first():
    key = ("arithmetic", "abc")
    a = {seed: {key: np.array([0.0, 50.0, 100.0])} for seed in (0, 1)}
    b = {0: {key: np.array([25.0, 75.0, 100.0])}, 1: {key: np.array([75.0, 75.0, 100.0])}}
    interval = paired_by_prompt(a, b)  # by prompt 50, 25 and 0
    assert interval.estimate == 25.0
    assert interval.high - 25 == pytest.approx(4.3027 * 25 / math.sqrt(3), abs=1e-3)


def test_sets_count_alike_whatever_their_size():
    small, large = ("small", "a"), ("large", "b")
    a = {0: {small: np.zeros(2), large: np.zeros(100)}}
    b = {0: {small: np.array([10.0, 30.0]), large: np.tile([0.0, 2.0], 50)}}
    interval = paired_by_prompt(a, b)
    assert interval.estimate == pytest.approx((20 + 1) / 2)
    # Nearly all variance is the small set's: half of 20 ± t(1) · 10, with a little more than one degree of freedom.
    assert 40 < interval.high - interval.estimate < 12.706 * 10 / 2


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ({0: {("s", "x"): np.zeros(2)}}, {1: {("s", "x"): np.ones(2)}}, "no seed"),
        ({0: {("s", "x"): np.zeros(2)}}, {0: {("s", "y"): np.ones(2)}}, "not the same prompts"),
        ({0: {("s", "x"): np.zeros(1)}}, {0: {("s", "x"): np.ones(1)}}, "fewer than two prompts"),
        ({0: {("s", "x"): np.zeros(2)}}, {0: {("s", "x"): np.ones(2)}}, "same difference"),
    ],
)
def test_no_interval_over_prompts_where_there_is_none(a: dict, b: dict, why: str):
    with pytest.raises(NoInterval, match=why):
        paired_by_prompt(a, b)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # 3·0.01, then 2·0.03, which 1·0.04 may not undercut
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_detectable_difference_by_a_table():
    # Cohen's d for a paired t-test, two-sided 5 %, power 80 %: n = 34 finds d = 0.5 (G*Power), n = 5 finds 1.68.
    assert detectable_difference(34, 1.0) == pytest.approx(0.495, abs=0.005)
    assert detectable_difference(5, 2.0) == pytest.approx(2 * 1.682, abs=0.002)
    with pytest.raises(NoInterval):
        detectable_difference(1, 1.0)


def test_power_at_the_detectable_difference():
    assert power(5, 1500) == pytest.approx(0.8, abs=0.035)  # three standard errors
    assert power(5, 1500, alpha=0.05 / 7) == pytest.approx(0.8, abs=0.035)


def test_holm_lets_one_family_in_twenty_through():
    by_holm, without = false_claims(10, 5, 800)
    assert by_holm <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 800)
    assert without > 0.25


@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_of_normal_figures(seeds: int):
    shape = "normal"
    a, b = draw(shape, seeds, 2000)
    band = 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert single_coverage(a, truth(shape)[0], SHARE) == pytest.approx(0.95, abs=band)
    assert paired_coverage(a, b, 0.0) == pytest.approx(0.95, abs=band)
    assert bootstrap_coverage(a, truth(shape)[0]) < 0.86


def test_coverage_near_1_is_that_of_pairs():
    shape = "near 1: Beta(29.1, 0.9), mean 0.97"
    a, b = draw(shape, 5, 2000)
    assert paired_coverage(a, b, 0.0) > 0.94
    assert 0.915 < single_coverage(a, truth(shape)[0], SHARE) < 0.945
    assert single_coverage(a, truth(shape)[0], UNBOUNDED) < 0.91  # Student's t is too narrow for a skewed arm


def test_coverage_of_a_skewed_positive_figure():
    shape = "skewed: exponential"
    a, _ = draw(shape, 3, 2000)
    assert 0.92 < single_coverage(a, truth(shape)[0], POSITIVE) < 0.955
    assert single_coverage(a, truth(shape)[0], UNBOUNDED) < 0.91


def test_two_seeds_of_a_share_by_hand():
    estimate = over_seeds([80.0, 90.0], PERCENT)
    # The shares m with (0.85 - m)² = 12.706² · m(1 - m) / 51, where 51 = 0.85 · 0.15 / 0.05² trials have the error 5 %.
    assert (estimate.mean, estimate.n) == (85.0, 2)
    assert (estimate.low, estimate.high) == pytest.approx((17.46, 99.35), abs=0.01)
    for limit in (estimate.low / 100, estimate.high / 100):
        assert (0.85 - limit) ** 2 == pytest.approx(12.7062**2 * limit * (1 - limit) / 51, rel=1e-3)


def test_two_seeds_of_a_positive_figure_by_hand():
    estimate = over_seeds([0.01, 0.03], POSITIVE)  # mean 0.02, standard error 0.01
    for limit in (estimate.low, estimate.high):
        assert (0.02 - limit) ** 2 == pytest.approx(12.7062**2 * 0.01**2 * limit / 0.02, rel=1e-3)
    assert 0 < estimate.low < 0.001
    assert over_seeds([0.01, 0.03]).low < 0  # Student's t


@given(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=8),
    st.sampled_from([SHARE, PERCENT, POSITIVE]),
)
def test_limits_stay_within_the_bounds_and_enclose_the_mean(values: list[float], bounds: Bounds):
    try:
        estimate = over_seeds([bounds.low + min(bounds.high, 100) * value for value in values], bounds)
    except NoInterval:
        return
    assert bounds.low <= estimate.low <= estimate.mean <= estimate.high <= bounds.high


def test_a_share_read_from_its_other_end_has_the_mirrored_interval():
    right, wrong = over_seeds([70.0, 90.0, 95.0], PERCENT), over_seeds([30.0, 10.0, 5.0], PERCENT)
    assert (100 - right.low, 100 - right.high) == pytest.approx((wrong.high, wrong.low))


def test_small_shares_have_the_interval_of_positive_figures():
    values = [2e-6, 3e-6, 7e-6]
    share, positive = over_seeds(values, SHARE), over_seeds(values, POSITIVE)
    assert (share.low, share.high) == pytest.approx((positive.low, positive.high), rel=1e-4)


def test_figures_that_break_their_bounds_have_student_s_interval():
    assert over_seeds([-0.01, 0.03], POSITIVE) == over_seeds([-0.01, 0.03])


def test_a_difference_of_shares_is_at_most_a_hundred_points():
    difference = paired_difference({0: 50.0, 1: 50.0}, {0: 60.0, 1: 90.0}, PERCENT)
    assert (difference.mean, difference.low, difference.high) == (25.0, -100.0, 100.0)  # 25 ± 191 without bounds
