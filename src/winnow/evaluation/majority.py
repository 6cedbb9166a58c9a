"""maj@k: is the most frequent answer right? (Self-consistency, arXiv 2203.11171.)"""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from winnow.evaluation.statistics import Interval, check_k, check_verdicts, clustered_wilson


def majority_at_k(
    answers: Sequence[Sequence[str | None]], correct: NDArray[np.bool_], k: int | None = None
) -> Interval:
    """The chance that the most frequent answer of k samples is right, from n ≥ k samples of each prompt (default: k = n).

    The exact mean over all k-subsets of a prompt's samples and, where answers tie for the lead, over a fair draw among
    them. Right samples are one answer, since each equals the gold, whatever their text; wrong ones are the same answer if
    their texts are equal, so pass normalised text. None, no answer, has no vote; a subset without a vote is wrong.

    Args:
        answers: (P, n) texts, None where a response has no answer.
        correct: (P, n) verdicts.
        k: Size of the vote.

    Raises:
        ValueError: `answers` and `correct` differ in shape, k is not in 1..n, or as `check_verdicts`.
    """
    check_verdicts(correct)
    prompts, n = correct.shape
    if len(answers) != prompts or any(len(row) != n for row in answers):
        raise ValueError(f"answers are not {prompts} prompts × {n} samples, as the verdicts are")
    size = n if k is None else k
    check_k(size, n)
    wins = [_win_rate(*_ballot(row, right), size) for row, right in zip(answers, correct, strict=True)]
    return clustered_wilson(np.array(wins), trials=n // size)


def _ballot(answers: Sequence[str | None], correct: NDArray[np.bool_]) -> tuple[int, tuple[int, ...], int]:
    """How many samples are right, how many gave each wrong answer (descending), and how many gave none."""
    wrong = Counter(answer for answer, right in zip(answers, correct, strict=True) if not right)
    silent = wrong.pop(None, 0)
    return int(correct.sum()), tuple(sorted(wrong.values(), reverse=True)), silent


@lru_cache(maxsize=4096)
def _win_rate(right: int, wrong: tuple[int, ...], silent: int, k: int) -> float:
    """The share of k-subsets that the right answer wins; a tie with m others is 1 / (m + 1) of a win.

    Sums over the number of votes that the right answer gets. Wrong answers that have fewer samples than that can
    neither beat it nor tie, and fill the subset as freely as silence does.
    """
    wins = Fraction(0)
    for votes in range(1, min(right, k) + 1):
        rivals = [count for count in wrong if count >= votes]
        free = silent + sum(count for count in wrong if count < votes)
        for (ties, drawn), ways in _rival_draws(rivals, votes, k - votes).items():
            wins += Fraction(math.comb(right, votes) * ways * math.comb(free, k - votes - drawn), ties + 1)
    return float(wins / math.comb(right + sum(wrong) + silent, k))


def _rival_draws(rivals: Sequence[int], votes: int, room: int) -> Counter[tuple[int, int]]:
    """The ways to draw at most `votes` samples of each rival and `room` in all, by (rivals that got `votes`, drawn)."""
    draws = Counter({(0, 0): 1})
    for count in rivals:
        grown: Counter[tuple[int, int]] = Counter()
        for (ties, drawn), ways in draws.items():
            for more in range(min(votes, room - drawn) + 1):
                grown[ties + (more == votes), drawn + more] += ways * math.comb(count, more)
        draws = grown
    return draws
