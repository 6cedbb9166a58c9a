"""maj@k against enumeration of the votes in all subsets."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from winnow.evaluation.intervals import accuracy, majority_at_k

RIGHT = "right"


def vote(subset: tuple[str | None, ...]) -> float:
    """Probability that a uniform draw among the most frequent answers gives RIGHT."""
    votes = Counter(answer for answer in subset if answer is not None)
    leaders = [answer for answer, count in votes.items() if count == max(votes.values())]
    return float(RIGHT in leaders) / max(len(leaders), 1)


def estimate(answers: list[list[str | None]], k: int | None = None) -> float:
    correct = np.array([[answer == RIGHT for answer in row] for row in answers])
    return majority_at_k(answers, correct, k).estimate


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([RIGHT, RIGHT, "2", "3"], 1),
        ([RIGHT, "2", "2", "3"], 0),
        ([RIGHT, RIGHT, "2", "2"], 1 / 2),
        ([RIGHT, "2", "3", "4"], 1 / 4),
        ([RIGHT, "2", "3", None], 1 / 3),
        ([RIGHT, None, None, None], 1),
        ([None, None, None, None], 0),
        (["2", "3", None, None], 0),
    ],
)
def test_the_vote_of_four(row: list[str | None], expected: float):
    assert estimate([row]) == pytest.approx(expected, abs=1e-15)


def test_right_answers_are_one_whatever_their_text():
    """Three spellings of ½ count as one answer and outvote two equal wrong answers."""
    answers = [["1/2", "0.5", r"\frac12", "2", "2"]]
    assert majority_at_k(answers, np.array([[True, True, True, False, False]])).estimate == 1


@pytest.mark.parametrize("k", range(1, 8))
def test_maj_at_k_is_the_mean_over_all_subsets(k: int):
    rng = np.random.default_rng(k)
    texts = np.array([RIGHT, "2", "3", "4", None], dtype=object)
    answers = [list(rng.choice(texts, 7, p=rng.dirichlet(np.ones(5)))) for _ in range(30)]
    brute = np.mean([[vote(subset) for subset in combinations(row, k)] for row in answers])
    assert estimate(answers, k) == pytest.approx(brute, abs=1e-12)


def test_maj_at_3_of_64_against_drawing():
    """20 000 draws of three samples: 0.014 is four standard errors."""
    row = [RIGHT] * 20 + ["2"] * 24 + ["3"] * 12 + [str(i) for i in range(10, 14)] + [None] * 4
    rng = np.random.default_rng(0)
    drawn = [vote(tuple(row[i] for i in rng.choice(64, 3, replace=False))) for _ in range(20_000)]
    assert estimate([row], 3) == pytest.approx(np.mean(drawn), abs=0.014)


def test_maj_at_1_is_accuracy_and_order_does_not_matter():
    rng = np.random.default_rng(3)
    answers = rng.choice(np.array([RIGHT, "2", "3", None], dtype=object), (20, 9))
    correct = answers == RIGHT
    assert majority_at_k(answers.tolist(), correct, 1).estimate == pytest.approx(accuracy(correct).estimate)
    shuffled = rng.permuted(rng.permutation(answers), axis=1)
    one, other = majority_at_k(answers.tolist(), correct, 4), majority_at_k(shuffled.tolist(), shuffled == RIGHT, 4)
    assert (one.estimate, one.low, one.high) == pytest.approx((other.estimate, other.low, other.high), abs=1e-12)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="answers are not 1 prompts × 3 samples"):
        majority_at_k([["1", "2"]], np.array([[True, False, True]]))
    with pytest.raises(ValueError, match="k = 3 of n = 2 samples"):
        majority_at_k([["1", "2"]], np.array([[True, False]]), 3)
