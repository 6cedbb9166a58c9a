"""Answers a second through each verifier that `reward/verifier=` composes, and CPU seconds of the whole process tree."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cpu import cpu_seconds
from benchmarks.figures import Named, Skipped, Value, spread
from winnow.config.compose import composed
from winnow.config.instantiate import build_node
from winnow.rewards.verifier import Verifier

REPEATS = 5
Pair = tuple[str, str]
"""Gold and answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """`answers` pairs a repeat, the n-th of all pairs being `pair(n)`: none occurs twice, lest a cache answer."""

    name: str
    verifier: str
    says: str
    answers: int
    pair: Callable[[int], Pair]


def numbers(n: int) -> Pair:
    return str(n), str(n + n % 2)


def decimals(n: int) -> Pair:
    return f"{n}.5", f"{n}.5{n % 2}"


def roots(n: int) -> Pair:
    """Equal where n is even, and nothing that text or plain numbers settle."""
    return rf"\sqrt{{{4 * n + 4}}}", rf"2\sqrt{{{n + 1 + n % 2}}}"


def words(n: int) -> Pair:
    return f"word {n}", f"word {n + n % 2}"


CASES = (
    Case("math_verify_numbers", "math_verify", "plain numbers, which no worker is asked about", 20_000, numbers),
    Case("math_verify_algebra", "math_verify", "square roots, each asked of one of two worker processes", 400, roots),
    Case("numeric", "numeric", "decimals, within its tolerance or not", 20_000, decimals),
    Case("exact", "exact", "short texts", 20_000, words),
)
FIGURES = tuple(
    named
    for case in CASES
    for named in (
        Named(f"answers_per_s_{case.name}", f"{case.verifier}: {case.says}", "answers/s", 0),
        Named(f"cpu_ms_per_answer_{case.name}", "the same", "CPU-ms", 3),
    )
)


def skipped() -> Skipped | None:
    return None


def measured(repeats: int = REPEATS) -> tuple[dict[str, Value], list[dict]]:
    figures: dict[str, Value] = {}
    raw: list[dict] = []
    for case in CASES:
        with build_node(composed("train", [f"reward/verifier={case.verifier}"]).reward.verifier) as pool:
            judge(pool, case, -1)  # starts the workers, where there are any
            costs = [judge(pool, case, repeat) for repeat in range(repeats)]
        figures |= spread(f"answers_per_s_{case.name}", [case.answers / wall for wall, _ in costs])
        figures |= spread(f"cpu_ms_per_answer_{case.name}", [1000 * cpu / case.answers for _, cpu in costs])
        raw += [{"case": case.name, "answers": case.answers, "wall_s": wall, "cpu_s": cpu} for wall, cpu in costs]
        print(f"  {case.name}: {figures[f'answers_per_s_{case.name}']:,.0f} answers/s", flush=True)
    return figures, raw


def judge(pool: Verifier, case: Case, repeat: int) -> tuple[float, float]:
    """Wall and CPU seconds of the pairs of one repeat."""
    first = (repeat + 1) * case.answers
    golds, answers = zip(*(case.pair(n) for n in range(first, first + case.answers)), strict=True)
    responses = [rf"so it is \boxed{{{answer}}}" for answer in answers]
    wall, cpu = time.perf_counter(), cpu_seconds()
    pool.judge(golds, responses)
    return time.perf_counter() - wall, cpu_seconds() - cpu
