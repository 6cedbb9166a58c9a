"""Intervals computed by hand, pass@k against enumeration of all subsets, and coverage of the intervals."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from benchmarks.prompt_interval_coverage import SHAPES, accuracy_coverage, length_coverage, pass_coverage
from winnow.evaluation.intervals import Interval, accuracy, clustered_mean, pass_at_k

RNG = np.random.default_rng(7)
SOME = RNG.random((40, 8)) < RNG.beta(0.5, 1, (40, 1))


def limits(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def rows(*prompts: str) -> np.ndarray:
    """`rows("10", "00")`: two prompts with two samples each, of which one is correct."""
    return np.array([[sample == "1" for sample in prompt] for prompt in prompts])


def test_accuracy_of_two_prompts_by_hand():
    """Shares 1 and 0: p = ½, s²/P = ¼, effective size 1; t = 12.706 on one degree of freedom: ½ ± t / (2 √(1 + t²))."""
    assert limits(accuracy(rows("1", "0"))) == pytest.approx((0.5, 0.001541, 0.998459), abs=1e-6)


def test_accuracy_of_four_prompts_by_hand():
    """Shares 1, ½, ½, 0: s² = 1/6, s²/P = 1/24, effective size ¼ · 24 = 6; t = 3.18245: ½ ± t / (2 √(6 + t²))."""
    assert limits(accuracy(rows("11", "10", "01", "00"))) == pytest.approx((0.5, 0.10378, 0.89622), abs=1e-5)


def test_prompts_that_happen_to_agree_count_as_independent_samples_and_no_more():
    """All shares are ½: no variance between prompts, eight samples are eight trials: ½ ± 3.18245 / (2 √(8 + t²))."""
    assert limits(accuracy(rows("10", "01", "10", "01"))) == pytest.approx((0.5, 0.12628, 0.87372), abs=1e-5)


@pytest.mark.parametrize("samples", [1, 16])
def test_all_wrong_and_all_right_keep_a_width(samples: int):
    """With thirty prompts and no correct sample the upper limit is t² / (30 + t²), t = 2.04523, for every G."""
    nothing = np.zeros((30, samples), dtype=bool)
    assert limits(accuracy(nothing)) == pytest.approx((0.0, 0.0, 0.12237), abs=1e-5)
    assert limits(accuracy(~nothing)) == pytest.approx((1.0, 0.87763, 1.0), abs=1e-5)


def test_one_prompt_says_nothing_of_others():
    assert accuracy(rows("1101")) == Interval(0.75, 0.0, 1.0)
    assert clustered_mean(np.array([[3.0, 5.0]])) == Interval(4.0, 0.0, math.inf)


def test_one_sample_of_many_prompts_is_wilsons_binomial_interval():
    """For large P, t is almost the normal quantile and P − 1 almost P: the interval is close to scipy's Wilson's."""
    correct = np.arange(5000)[:, None] < 700
    expected = binomtest(700, 5000).proportion_ci(method="wilson")
    assert limits(accuracy(correct)) == pytest.approx((0.14, expected.low, expected.high), abs=2e-5)


def test_mean_of_two_prompts_by_hand():
    """Prompt means 10 and 20: 15 with the error 5. A limit m has (15 − m)² = 12.7062² · 5² · m / 15, so both together
    15², and the sum 30 + 12.7062² · 25 / 15."""
    mean, low, high = limits(clustered_mean(np.array([[8, 12], [19, 21]])))
    assert mean == 15
    assert low * high == pytest.approx(225)
    assert low + high == pytest.approx(30 + 12.7062**2 * 25 / 15, abs=1e-3)


def test_lengths_have_no_negative_limit_and_values_below_0_are_no_lengths():
    assert clustered_mean(np.array([[0.0], [0.0], [40.0]])).low > 0
    assert limits(clustered_mean(np.zeros((3, 2)))) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="negative"):
        clustered_mean(np.array([[-1.0], [2.0]]))


@pytest.mark.parametrize("k", range(1, 8))
def test_pass_at_k_is_the_mean_over_all_subsets(k: int):
    correct = RNG.random((12, 7)) < RNG.random((12, 1))
    brute = np.mean([[any(subset) for subset in combinations(row, k)] for row in correct.tolist()])
    assert pass_at_k(correct, k).estimate == pytest.approx(brute, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(16, 8), (100, 10), (200, 199)])
def test_pass_at_k_is_unbiased(n: int, k: int):
    """The mean of the estimates over the binomial number of correct samples is 1 − (1 − p)^k."""
    estimates = [pass_at_k(np.arange(n)[None] < c, k).estimate for c in range(n + 1)]
    for p in (0.001, 0.05, 0.4):
        assert np.dot(binom.pmf(np.arange(n + 1), n, p), estimates) == pytest.approx(
            -math.expm1(k * math.log1p(-p)), abs=1e-9
        )


def test_pass_at_k_of_1024_samples_is_exact():
    """One correct sample of n = 1024 is among the k with probability k / n.

    With two of them, k = 512 misses both with probability (512 · 511) / (1024 · 1023).
    """
    sample = np.arange(1024)[None]
    assert [pass_at_k(sample < 1, k).estimate for k in (1, 512, 1023, 1024)] == [1 / 1024, 0.5, 1023 / 1024, 1]
    assert pass_at_k(sample < 2, 512).estimate == pytest.approx(1 - (512 * 511) / (1024 * 1023), abs=1e-15)
    assert pass_at_k(sample < 0, 512).estimate == 0


def test_pass_at_k_against_drawing():
    """3 correct samples of 64; 10 are drawn without replacement, 100 000 times: 0.006 is four standard errors."""
    drawn = np.random.default_rng(1).hypergeometric(3, 61, 10, 100_000)
    assert pass_at_k(np.arange(64)[None] < 3, 10).estimate == pytest.approx((drawn > 0).mean(), abs=0.006)


def test_pass_at_1_is_accuracy():
    assert limits(pass_at_k(SOME, 1)) == pytest.approx(limits(accuracy(SOME)), abs=1e-12)


def test_order_does_not_matter():
    shuffled = RNG.permuted(RNG.permutation(SOME), axis=1)
    for figure in (accuracy, lambda c: pass_at_k(c, 3), lambda c: clustered_mean(np.where(c, 5.0, 9.0))):
        assert limits(figure(shuffled)) == pytest.approx(limits(figure(SOME)), abs=1e-12)


def test_copies_of_samples_are_no_evidence():
    assert limits(accuracy(np.repeat(SOME, 2, axis=1))) == pytest.approx(limits(accuracy(SOME)), abs=1e-12)
    greedy = SOME[:, :1]
    assert limits(accuracy(np.repeat(greedy, 16, axis=1))) == pytest.approx(limits(accuracy(greedy)), abs=1e-12)
    lengths = RNG.lognormal(5, 1, (20, 3))
    assert limits(clustered_mean(np.repeat(lengths, 2, axis=1))) == pytest.approx(limits(clustered_mean(lengths)))


@pytest.mark.parametrize("samples", [1, 4, 16])
@pytest.mark.parametrize("prompts", [40, 272])
@pytest.mark.parametrize(
    "shape", ["Beta(0.3, 0.3): half, all or nothing", "Beta(2, 2): half, even", "Beta(1, 5): 17 %"]
)
def test_coverage_of_accuracy(shape: str, prompts: int, samples: int):
    """With 2000 repetitions the standard error of the coverage is half a per cent."""
    assert 0.93 <= accuracy_coverage(SHAPES[shape], prompts, samples, repetitions=2000) <= 0.97


def test_coverage_where_the_docstring_says_that_it_falls_short():
    """Thirty prompts at 3 % accuracy, nearly all always or never solved: coverage is about 90 %."""
    shape = SHAPES["Beta(0.1, 3): 3 %, all or nothing"]
    assert 0.87 <= accuracy_coverage(shape, 30, 16, repetitions=2000) <= 0.93
    assert 0.93 <= accuracy_coverage(shape, 500, 16, repetitions=1000) <= 0.97


@pytest.mark.parametrize("k", [4, 8])
def test_coverage_of_pass_at_k(k: int):
    assert 0.93 <= pass_coverage((1, 5), prompts=272, k=k, repetitions=2000) <= 0.97


def test_coverage_of_mean_length():
    assert 0.93 <= length_coverage(0.3, 0.3, prompts=40, samples=4, repetitions=2000) <= 0.97


@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_samples(k: int):
    with pytest.raises(ValueError, match=f"k = {k} of n = 4 samples: k must be 1 to 4"):
        pass_at_k(rows("1010"), k)


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        (np.zeros((0, 4), dtype=bool), "at least one of each"),
        (np.zeros(4, dtype=bool), r"got shape \(4,\)"),
        (np.array([[1.0, -1.0]]), "expected verdicts as booleans, got float64"),
    ],
)
def test_what_is_not_verdicts(correct: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        accuracy(correct)
