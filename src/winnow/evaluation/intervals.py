"""Estimates of avg@k, pass@k, maj@k, means and paired differences, each with a 95 % interval clustered by prompt.

Samples of one prompt are correlated, so the unit of observation is the prompt. Every interval is about the population
that the prompts were drawn from (arXiv 2411.00640), not about sampling these prompts again.
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
    """An estimate with its 95 % confidence limits, in the unit of the averaged values."""

    estimate: float
    low: float
    high: float


def t_quantile(prompts: int) -> float:
    """The two-sided 95 % quantile of Student's t with `prompts` − 1 degrees of freedom; infinite for one prompt."""
    return float(stdtrit(prompts - 1, 0.975)) if prompts > 1 else math.inf


def check_k(k: int, n: int) -> None:
    """Check of k against n samples.

    Raises:
        ValueError: k is not in 1..n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} of n = {n} samples: k must be 1 to {n}")


def check_verdicts(yes: NDArray[np.bool_]) -> None:
    """Check of a (P, G) array of verdicts.

    Raises:
        ValueError: the array is not (P, G) with at least one prompt and one sample, or not of booleans (a reward of −1
            would count as true).
    """
    _check_shape(yes)
    if yes.dtype != np.bool_:
        raise ValueError(f"expected verdicts as booleans, got {yes.dtype}")


def shares(yes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(P,) share of true values among each prompt's samples, from (P, G) booleans.

    Raises:
        ValueError: as `check_verdicts`.
    """
    check_verdicts(yes)
    return yes.mean(axis=1)


def clustered_wilson(per_prompt: NDArray[np.float64], trials: int) -> Interval:
    """Mean of (P,) shares, each in [0, 1], with Wilson's interval for clustered data.

    This is Wilson's score interval (1927) with Student's t in place of the normal quantile and, as the sample size, the
    effective size of Korn and Graubard (1998), p(1 − p) / (s² / P). Franco, Little, Louis and Slud recommend this form
    for clustered surveys (2019, J. Surv. Stat. Methodol. 7, 334); they too find that its coverage falls short with few
    clusters. The effective size is at most P·`trials`, where a prompt's share stands for at least `trials` independent
    trials. If all shares are 0 or all are 1, the variance between prompts cannot be estimated; the samples of a prompt
    are then assumed to agree, and the size is P. One prompt gives [0, 1].

    Measured coverage (`python -m benchmarks.prompt_interval_coverage`: nine distributions of solve probabilities; G =
    1, 4, 16): 93 to 97 % from 272 prompts on, and from 30 prompts on at accuracies near ½. With 30 or 40 prompts and
    accuracies nearer to 0 or 1 it is 87 to 93 % for G = 16 if most prompts are always solved or never, because few
    prompts then carry the information, and 92.5 to 98.5 % for G = 1 or 4, because the estimate takes few distinct
    values and coverage jumps.
    """
    prompts = len(per_prompt)
    p = float(per_prompt.mean())
    if prompts == 1:
        return Interval(p, 0.0, 1.0)
    spread, variance = p * (1 - p), float(per_prompt.var(ddof=1)) / prompts
    size = spread / max(variance, spread / (prompts * trials)) if spread > 0 else prompts
    return Interval(p, *wilson_limits(p, size, t_quantile(prompts)))


def wilson_limits(p: float, size: float, quantile: float) -> tuple[float, float]:
    """Wilson's score limits of a share `p` in [0, 1] that `size` independent trials would estimate as well: the shares
    m with (p − m)² = `quantile`² · m(1 − m) / `size`, both in [0, 1]."""
    t2 = quantile**2
    centre = (p + t2 / (2 * size)) / (1 + t2 / size)
    half = math.sqrt(t2 * (p * (1 - p) / size + t2 / (4 * size**2))) / (1 + t2 / size)
    # Algebraically the limits enclose p; rounding could break that.
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def positive_limits(mean: float, error: float, quantile: float) -> tuple[float, float]:
    """Score limits of the mean of figures that cannot be negative, such as lengths: the means m with
    (`mean` − m)² = `quantile`² · `error`² · m / `mean`, both positive.

    They are Wilson's limits far below 1: the standard error `error` was estimated at `mean`, and at other means the
    variance is taken to be in proportion to the mean. The lower limit is thus above 0 even where Student's t interval,
    `mean` ± `quantile` · `error`, would reach below it.
    """
    if mean <= 0:
        return mean, mean
    excess = (quantile * error) ** 2 / mean
    high = mean + excess / 2 + math.sqrt(excess * mean + excess**2 / 4)
    return mean * (mean / high), high


def accuracy(correct: NDArray[np.bool_]) -> Interval:
    """avg@G: the share of correct ones among (P, G) samples, with `clustered_wilson`'s interval.

    It serves for any other booleans as well, such as truncated responses.

    Raises:
        ValueError: as `check_verdicts`.
    """
    return clustered_wilson(shares(correct), trials=correct.shape[1])


def pass_at_k(correct: NDArray[np.bool_], k: int) -> Interval:
    """pass@k: the probability that at least one of k samples is correct, estimated from n ≥ k samples per prompt.

    For a prompt with c correct samples the estimate is the unbiased 1 − C(n − c, k) / C(n, k) (Chen et al., arXiv
    2107.03374, Eq. 1), computed in integers and rounded once. `correct` is (P, n); for k = 1 the result equals
    `accuracy`. The interval is `clustered_wilson`'s, in which a prompt counts as at most n / k trials. Coverage is 92
    to 97 % from 272 prompts on, but up to 99.9 % as pass@k approaches 1: the few prompts below 1 are too rare to
    estimate the variance from.

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
    """Mean of (P, G) values that are not negative, such as lengths in tokens, with `positive_limits` over the P prompt
    means.

    One prompt gives the limits 0 and infinity. Measured coverage for log-normal lengths is 93.3 to 95.4 % from 272
    prompts on. With 30 or 40 prompts it is 94 to 95 % for σ = 0.3 between prompts, 92 to 94 % for 0.6 and 89 to 91 %
    for 1.

    Raises:
        ValueError: the array is not (P, G) with at least one prompt and one sample, or a value is negative.
    """
    _check_shape(values)
    if (values < 0).any():
        raise ValueError("expected values that are not negative")
    per_prompt = values.mean(axis=1, dtype=np.float64)
    mean, prompts = float(per_prompt.mean()), len(per_prompt)
    if prompts == 1:
        return Interval(mean, 0.0, math.inf)
    error = float(per_prompt.std(ddof=1)) / math.sqrt(prompts)
    return Interval(mean, *positive_limits(mean, error, t_quantile(prompts)))


def student_interval(per_prompt: NDArray[np.float64]) -> Interval:
    """Mean of (P,) values with Student's t interval; one value gives infinite limits."""
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
    """Powers of two up to `most`, and `most` itself: `[1, 2, 4, 8]` for 8, `[1, 2, 3]` for 3; the k of pass@k."""
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})


def majority_at_k(
    answers: Sequence[Sequence[str | None]], correct: NDArray[np.bool_], k: int | None = None
) -> Interval:
    """maj@k: the probability that the most frequent answer of k samples is correct, from n ≥ k samples per prompt.

    It is the exact mean over all k-subsets of a prompt's samples; answers that tie for the lead win with equal
    probability. All correct samples count as one answer whatever their text, since each equals the gold answer. Wrong
    samples count as the same answer if their texts are equal, so pass normalised text. A response without an answer has
    no vote, and a subset without any vote is wrong. The interval is `clustered_wilson`'s.

    Args:
        answers: (P, n) texts; None for a response without an answer.
        correct: (P, n) verdicts.
        k: Size of the vote; n by default.

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
    """Numbers of correct samples, of samples with each wrong answer (descending), and of samples without an answer."""
    wrong = Counter(answer for answer, right in zip(answers, correct, strict=True) if not right)
    silent = wrong.pop(None, 0)
    return int(correct.sum()), tuple(sorted(wrong.values(), reverse=True)), silent


@lru_cache(maxsize=4096)
def _win_rate(right: int, wrong: tuple[int, ...], silent: int, k: int) -> float:
    """Share of the k-subsets in which the correct answer wins; a tie with m others counts as 1 / (m + 1) of a win.

    The sum runs over the number of votes for the correct answer. Wrong answers with fewer samples than that can neither
    beat nor tie it, so their samples are treated like those without an answer.
    """
    wins = Fraction(0)
    for votes in range(1, min(right, k) + 1):
        rivals = [count for count in wrong if count >= votes]
        free = silent + sum(count for count in wrong if count < votes)
        for (ties, drawn), ways in _rival_draws(rivals, votes, k - votes).items():
            wins += Fraction(math.comb(right, votes) * ways * math.comb(free, k - votes - drawn), ties + 1)
    return float(wins / math.comb(right + sum(wrong) + silent, k))


def _rival_draws(rivals: Sequence[int], votes: int, room: int) -> Counter[tuple[int, int]]:
    """Number of ways to draw at most `votes` samples of each rival and `room` in all.

    The keys are (rivals that got exactly `votes`, samples drawn in all).
    """
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
    """Numbers of prompts solved by both, only A, only B or neither; p-value of McNemar's exact two-sided test."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def paired_difference(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Interval:
    """Difference in accuracy B − A on the same P prompts, in [−1, 1], with Student's t interval over prompts.

    `a` is (P, G₁) and `b` is (P, G₂), with prompts in the same order. If the difference is the same for every prompt (A
    and B agree on all of them, say), a t interval would have no width; the interval is then Agresti and Min's (2005,
    Stat. Med. 24, 729). One prompt gives [−1, 1].

    Measured coverage (`python -m benchmarks.prompt_interval_coverage`) is 93 to 97 %, but up to 99.7 % with 30 or 40
    prompts of which hardly any differ.

    Raises:
        ValueError: the numbers of prompts differ, or as `check_verdicts`.
    """
    share_a, share_b = _of_same_prompts(a, b)
    difference = share_b - share_a
    interval = _agresti_min(difference) if np.allclose(difference, difference[0]) else student_interval(difference)
    return Interval(interval.estimate, max(-1.0, interval.low), min(1.0, interval.high))


def flips(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> FlipTable:
    """Prompts solved by A, (P, G₁), and by B, (P, G₂), cross-tabulated.

    A prompt counts as solved if at least half of its samples are correct.

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
    """Interval with half a prompt added to each cell of the 2×2 table (A correct or wrong, B correct or wrong)."""
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
