"""The page docs/parity.md: a table of all cases with their differences, and why there is one."""

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.parity.cases import CASES, PREFERENCE, Case, both, differences
from benchmarks.parity.numbers import numbers
from benchmarks.parity.our_side import our_loss
from benchmarks.parity.trl_side import trl_loss, trl_version

EQUAL = 1e-12
"""Differences below this are rounding, whose last digits depend on the machine."""
SEEDS = (0, 1, 2)

HEAD = """# Parity with TRL

The losses of TRL {version} and of Winnow on the same log-probabilities, rewards, masks and entropies, in float64: 16
responses to 4 prompts of 1 to 6 tokens, some of them cut off, with log-ratios of some 0.3, under {seeds} seeds. TRL's
side runs TRL's own methods, from rewards to the loss; only its forwards and its sampling are replaced. Winnow's side is
its own experience, plan of micro-batches and objective, composed from the words of the table. The difference of the
losses is absolute, and that of the gradients by each log-probability relative to the largest one. The sign = stands for
less than 1e-12.

`python -m benchmarks.parity` (extra `bench`) writes this page, and records TRL's losses. `tests/bench/test_parity.py`
holds Winnow's to them with a tolerance of 1e-10, and where TRL is installed to those that TRL gives there.
"""
DIFFERS = """## Where TRL's loss depends on memory settings

The same 16 responses of `loss_type=bnpo`, accumulated over more micro-batches (`gradient_accumulation_steps`), against
Winnow's token mean in micro-batches of few tokens. The largest difference of the gradient from that in one micro-batch:

{table}
"""


def page(say: Callable[[str], object]) -> str:
    """The page as Markdown; `say` hears each case."""
    parts = [HEAD.format(version=trl_version(), seeds=len(SEEDS))]
    for title, cases in (("Policy gradients", CASES), ("Preference pairs", PREFERENCE)):
        parts.append(f"## {title}\n\n{_table(cases, say)}")
    parts.append(DIFFERS.format(table=_micro_batches()))
    return "\n".join(parts)


def _table(cases: Sequence[Case], say: Callable[[str], object]) -> str:
    lines = ["| objective | TRL | Winnow | loss | gradient | |", "|---|---|---|---:|---:|---|"]
    for case in cases:
        value, gradient = worst(case)
        shown = _shown(value) if case.value else "differs"
        say(f"{case.name}: {value:.1e} {gradient:.1e}")
        settings = " ".join(f"`{name}={given}`".replace("['", "").replace("']", "") for name, given in case.trl.items())
        words = " ".join(f"`{word}`" for word in case.words)
        lines.append(f"| {case.name} | {settings} | {words} | {shown} | {_shown(gradient)} | {case.note} |")
    return "\n".join(lines) + "\n"


def worst(case: Case) -> tuple[float, float]:
    """The largest differences of a case over all seeds."""
    found = [differences(*both(case, numbers(seed))) for seed in SEEDS]
    return max(value for value, _ in found), max(gradient for _, gradient in found)


def _shown(difference: float) -> str:
    return "=" if difference < EQUAL else f"{difference:.1e}"


def _micro_batches() -> str:
    of, words = numbers(), ("algo=grpo", "algo/aggregate=token_mean", "algo.advantage.eps=1e-4")
    theirs = partial(trl_loss, {"loss_type": "bnpo"}, of)
    whole, ours = theirs(), our_loss(words, of)
    lines = ["| micro-batches | TRL `bnpo` | Winnow `token_mean`, budget in tokens |", "|---:|---:|---:|"]
    for count, budget in ((2, 40), (4, 20), (8, 8)):
        apart = [
            differences(part, of)[1]
            for part, of in ((theirs(micro_batches=count), whole), (our_loss(words, of, budget=budget), ours))
        ]
        lines.append(f"| {count} | {_shown(apart[0])} | {_shown(apart[1])} ({budget}) |")
    return "\n".join(lines)
