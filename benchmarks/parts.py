"""The parts of the suite. Each can be measured alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType

from benchmarks import cuda, matmul, memory, rejection_cost, scaling, startup, trl, verifiers
from benchmarks.figures import Named, Skipped, Value


@dataclass(frozen=True, slots=True)
class Part:
    """`measured` returns figures for `latest.json`, and every single measurement behind them."""

    name: str
    does: str
    figures: Sequence[Named]
    skipped: Callable[[], Skipped | None]
    measured: Callable[[], tuple[dict[str, Value], list[dict]]]


def parts(pairs: int = trl.PAIRS) -> dict[str, Part]:
    """By name, in the order in which they are measured; `pairs` of processes run against TRL."""
    modules = {
        "trl": trl,
        "kept": rejection_cost,
        "matmul": matmul,
        "memory": memory,
        "scaling": scaling,
        "verifiers": verifiers,
        "startup": startup,
        "cuda": cuda,
    }
    found = {name: Part(name, _title(m), m.FIGURES, m.skipped, m.measured) for name, m in modules.items()}
    return found | {"trl": replace(found["trl"], measured=partial(trl.measured, pairs))}


def _title(module: ModuleType) -> str:
    """The first paragraph of its docstring."""
    return " ".join(str(module.__doc__).split("\n\n")[0].split())


PARTS = parts()
