"""Throughput of each verifier that `reward/verifier=` composes: answers per second, and CPU time per answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.process import cpu_seconds
from benchmarks.records import Measurement, Named, Part, Value, spread
from winnow.config.compose import composed
from winnow.config.nodes import build_node
from winnow.rewards.verifier import Verifier

REPEATS = 5
Pair = tuple[str, str]
"""Gold and answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """A verifier and its answers: `pair(n)` is the n-th of all pairs, of which each repeat takes the next `answers`.

    No pair occurs twice, because a cache would answer the second time.
    """

    name: str
    verifier: str
    says: str
    answers: int
    pair: Callable[[int], Pair]


def numbers(n: int) -> Pair:
    """Integers that are equal for even n."""
    return str(n), str(n + n % 2)


def decimals(n: int) -> Pair:
    """Decimal numbers that are equal for even n."""
    return f"{n}.5", f"{n}.5{n % 2}"


def roots(n: int) -> Pair:
    """Square roots that are equal for even n, which neither text nor plain numbers can settle."""
    return rf"\sqrt{{{4 * n + 4}}}", rf"2\sqrt{{{n + 1 + n % 2}}}"


def words(n: int) -> Pair:
    """Texts that are equal for even n."""
    return f"word {n}", f"word {n + n % 2}"


CASES = (
    Case("math_verify_numbers", "math_verify", "plain numbers, settled without a worker process", 20_000, numbers),
    Case("math_verify_algebra", "math_verify", "square roots, each sent to one of two worker processes", 400, roots),
    Case("numeric", "numeric", "decimals, within its tolerance or not", 20_000, decimals),
    Case("exact", "exact", "short texts", 20_000, words),
)


def measured(repeats: int = REPEATS) -> Measurement:
    """Measure each case `repeats` times, after one repeat that is not counted."""
    figures: dict[str, Value] = {}
    raw: list[dict] = []
    for case in CASES:
        with build_node(composed("train", [f"reward/verifier={case.verifier}"]).reward.verifier) as verifier:
            judge(verifier, case, -1)  # starts the worker processes if the verifier has any
            costs = [judge(verifier, case, repeat) for repeat in range(repeats)]
        figures |= spread(f"answers_per_s_{case.name}", [case.answers / wall for wall, _ in costs])
        figures |= spread(f"cpu_ms_per_answer_{case.name}", [1000 * cpu / case.answers for _, cpu in costs])
        raw += [{"case": case.name, "answers": case.answers, "wall_s": wall, "cpu_s": cpu} for wall, cpu in costs]
        print(f"  {case.name}: {figures[f'answers_per_s_{case.name}']:,.0f} answers/s", flush=True)
    return figures, raw


def judge(verifier: Verifier, case: Case, repeat: int) -> tuple[float, float]:
    """Wall and CPU seconds for the pairs of one repeat."""
    first = (repeat + 1) * case.answers
    golds, answers = zip(*(case.pair(n) for n in range(first, first + case.answers)), strict=True)
    responses = [rf"so it is \boxed{{{answer}}}" for answer in answers]
    wall, cpu = time.perf_counter(), cpu_seconds()
    verifier.judge(golds, responses)
    return time.perf_counter() - wall, cpu_seconds() - cpu


PART = Part(
    "verifiers",
    "Throughput of each verifier that `reward/verifier=` composes: answers per second, and CPU time per answer.",
    tuple(
        named
        for case in CASES
        for named in (
            Named(f"answers_per_s_{case.name}", f"{case.verifier}: {case.says}", "answers/s", 0),
            Named(f"cpu_ms_per_answer_{case.name}", "CPU time per answer of the same", "CPU-ms", 3),
        )
    ),
    measured,
)
