"""Means over an evaluation with 95 % intervals. Samples of one prompt are alike: what is counted is prompts.

Every interval is about the population that the prompts were drawn from (arXiv 2411.00640), not about these prompts
sampled again.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import binomtest


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % confidence limits, in the unit of what was averaged."""

    estimate: float
    low: float
    high: float


def t_quantile(prompts: int) -> float:
    """The two-sided 95 % quantile of Student's t with `prompts` − 1 degrees of freedom; infinite for one prompt."""
    return float(stdtrit(prompts - 1, 0.975)) if prompts > 1 else math.inf


def check_k(k: int, n: int) -> None:
    """
    Raises:
        ValueError: k samples cannot be had from n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} of n = {n} samples: k must be 1 to {n}")


def check_verdicts(yes: NDArray[np.bool_]) -> None:
    """
    Raises:
        ValueError: not a (P, G) array with a prompt and a sample in it, or not of booleans (a reward of −1 would be yes).
    """
    _check_shape(yes)
    if yes.dtype != np.bool_:
        raise ValueError(f"expected verdicts as booleans, got {yes.dtype}")


def shares(yes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(P, G) yes or no, to the (P,) share of each prompt's samples that say yes.

    Raises:
        ValueError: as `check_verdicts`.
    """
    check_verdicts(yes)
    return yes.mean(axis=1)


def clustered_wilson(per_prompt: NDArray[np.float64], trials: int) -> Interval:
    """Mean of (P,) shares, each in [0, 1], with Wilson's interval for clustered data.

    Wilson's score interval (1927), with Student's t for the normal quantile and, for the sample size, the effective one of
    Korn and Graubard (1998), p(1 − p) / (s² / P); the form that Franco, Little, Louis and Slud recommend for clustered
    surveys (2019, J. Surv. Stat. Methodol. 7, 334), where they too find that it falls short with few clusters. The effective
    size is at most P·`trials`, where `trials` is how many independent trials a prompt's share stands for at least, and P
    where all shares are 0 or all are 1: spread that no prompt shows cannot be estimated, so samples of a prompt are taken to
    agree. One prompt gives [0, 1].

    Measured (`python tests/evaluation/interval_coverage.py`: nine shapes of solve probabilities; G = 1, 4, 16): coverage is
    93 to 97 % from 272 prompts on, and from 30 on at accuracies near ½. With 30 or 40 prompts nearer to 0 or 1 it is 87 to
    93 % where G = 16 and most prompts are always right or always wrong, as few of them decide, and 92.5 to 98.5 % with G = 1
    or 4, as figures that can take few values jump.
    """
    prompts = len(per_prompt)
    p = float(per_prompt.mean())
    if prompts == 1:
        return Interval(p, 0.0, 1.0)
    spread, variance = p * (1 - p), float(per_prompt.var(ddof=1)) / prompts
    size = spread / max(variance, spread / (prompts * trials)) if spread > 0 else prompts
    t2 = t_quantile(prompts) ** 2
    centre = (p + t2 / (2 * size)) / (1 + t2 / size)
    half = math.sqrt(t2 * (spread / size + t2 / (4 * size**2))) / (1 + t2 / size)
    # The limits enclose p by algebra, not by rounding.
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def accuracy(correct: NDArray[np.bool_]) -> Interval:
    """avg@G: the share of right answers among (P, G) samples, or of any other yes or no (truncated), by `clustered_wilson`.

    Raises:
        ValueError: as `check_verdicts`.
    """
    return clustered_wilson(shares(correct), trials=correct.shape[1])


def pass_at_k(correct: NDArray[np.bool_], k: int) -> Interval:
    """The chance that one of k samples is right, from n ≥ k samples of each prompt, by `clustered_wilson`.

    The unbiased 1 − C(n − c, k) / C(n, k) for a prompt with c right (Chen et al., arXiv 2107.03374, Eq. 1), in integers and
    rounded once. `correct` is (P, n). For k = 1 it is `accuracy`. Coverage is as there, 92 to 97 % from 272 prompts on, but
    up to 99.9 % where pass@k nears 1: the few prompts that fall short are too rare to judge the spread by, so a prompt counts
    as n / k trials at most.

    Raises:
        ValueError: k is not in 1..n; or as `check_verdicts`.
    """
    check_verdicts(correct)
    n = correct.shape[1]
    check_k(k, n)
    subsets = math.comb(n, k)
    by_count = np.array([(subsets - math.comb(n - c, k)) / subsets for c in range(n + 1)])
    return clustered_wilson(by_count[correct.sum(axis=1)], trials=n // k)


def clustered_mean(values: NDArray[np.float64]) -> Interval:
    """Mean of (P, G) values (lengths in tokens, say), with Student's t interval over the P prompt means.

    One prompt gives infinite limits. Measured coverage for log-normal lengths: 92.9 to 97 % from 272 prompts on; with 30 or 40,
    93.5 to 95 % if σ = 0.3 between prompts, 91 to 93 % if 0.6, 87 to 89 % if 1.

    Raises:
        ValueError: not a (P, G) array with a prompt and a sample in it.
    """
    _check_shape(values)
    return student_interval(values.mean(axis=1, dtype=np.float64))


def student_interval(per_prompt: NDArray[np.float64]) -> Interval:
    """Mean of (P,) values with Student's t interval."""
    prompts = len(per_prompt)
    mean = float(per_prompt.mean())
    if prompts == 1:
        return Interval(mean, -math.inf, math.inf)
    half = t_quantile(prompts) * float(per_prompt.std(ddof=1)) / math.sqrt(prompts)
    return Interval(mean, mean - half, mean + half)


def _check_shape(values: NDArray) -> None:
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"expected prompts × samples, at least one of each, got shape {values.shape}")


def powers_of_two(most: int) -> list[int]:
    """`[1, 2, 4, 8]` for 8, `[1, 2, 3]` for 3: the k of pass@k, the last always the number of samples."""
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})


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


@dataclass(frozen=True, slots=True)
class FlipTable:
    """Prompts that both, only A, only B or neither solved; `p_value`: McNemar's exact test (two-sided) of no difference."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def paired_difference(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Interval:
    """Accuracy of B less that of A on the same P prompts, in [−1, 1], with Student's t interval over prompts.

    `a` is (P, G₁), `b` (P, G₂), rows in the same order. Where every prompt shows one difference (as where A and B agree on
    all) t would have no width; there the interval is Agresti and Min's (2005, Stat. Med. 24, 729). One prompt gives [−1, 1].

    Measured (`python tests/evaluation/interval_coverage.py`): coverage is 93 to 97 %, but up to 99.7 % with 30 or 40 prompts
    of which hardly any differ.

    Raises:
        ValueError: the numbers of prompts differ, or as `check_verdicts`.
    """
    share_a, share_b = _of_same_prompts(a, b)
    difference = share_b - share_a
    interval = _agresti_min(difference) if np.allclose(difference, difference[0]) else student_interval(difference)
    return Interval(interval.estimate, max(-1.0, interval.low), min(1.0, interval.high))


def flips(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> FlipTable:
    """Which prompts changed sides from A, (P, G₁), to B, (P, G₂). Solved: at least half of its samples are right.

    Raises:
        ValueError: the numbers of prompts differ, or as `check_verdicts`.
    """
    solved_a, solved_b = (share >= 0.5 for share in _of_same_prompts(a, b))
    only_a, only_b = int((solved_a & ~solved_b).sum()), int((solved_b & ~solved_a).sum())
    return FlipTable(
        both=int((solved_a & solved_b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~solved_a & ~solved_b).sum()),
        p_value=float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    )


def _agresti_min(difference: NDArray[np.float64]) -> Interval:
    """As if each cell of the 2×2 table (right or wrong, by A and by B) held half a prompt more."""
    prompts = len(difference)
    if prompts == 1:
        return Interval(float(difference[0]), -1.0, 1.0)
    centre = float(difference.sum()) / (prompts + 2)
    variance = (float((difference**2).sum()) + 1) / (prompts + 2) - centre**2
    half = t_quantile(prompts) * math.sqrt(variance / (prompts + 2))
    estimate = float(difference.mean())
    return Interval(estimate, min(estimate, centre - half), max(estimate, centre + half))


def _of_same_prompts(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    share_a, share_b = shares(a), shares(b)
    if len(share_a) != len(share_b):
        raise ValueError(f"A has {len(share_a)} prompts and B has {len(share_b)}: pair the same prompts, in one order")
    return share_a, share_b
