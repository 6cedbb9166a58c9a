"""`winnow compare A B`: two evaluations paired by prompt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from winnow.errors import ConfigError
from winnow.evaluation import sample
from winnow.evaluation.figures import by_prompt, correct_of, described, percent
from winnow.evaluation.pairing import FlipTable, flips, paired_difference
from winnow.evaluation.results import read_results
from winnow.evaluation.statistics import Interval, accuracy

SETTINGS = ("seed", "samples", "temperature", "max_tokens")


def compare(a: Path, b: Path) -> str:
    """Markdown: the accuracies of each set that both have, their difference B − A, and the prompts that flipped.

    Raises:
        ConfigError: one of them is no evaluation that has ended, or they have no prompt in common.
    """
    first, second = read_results(a), read_results(b)
    shared = [name for name in first["sets"] if name in second["sets"]]
    if not shared:
        raise ConfigError(f"{a} has {', '.join(first['sets'])}, {b} has {', '.join(second['sets'])}: no set in common")
    lines = [
        f"A: {a} ({first['model']}, {first['path']})",
        f"B: {b} ({second['model']}, {second['path']})",
        *(f"note: {note}" for note in differences(first, second, shared)),
        "",
        "| set | prompts | A | B | B − A | both | only A | only B | neither | McNemar p |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in shared:
        left, right = (Path(d) / "samples" / f"{name}.parquet" for d in (a, b))
        lines.append(row(name, *paired(left, right)))
    lines += ["", "A prompt counts as solved where at least half of its samples are right; intervals are 95 %."]
    return "\n".join(lines)


def differences(first: dict, second: dict, shared: Sequence[str]) -> list[str]:
    """What else differs, and so may explain a difference."""
    found = [f"{key} is {first[key]} in A and {second[key]} in B" for key in SETTINGS if first[key] != second[key]]
    for name in shared:
        if first["sets"][name]["prompt_hash"] != second["sets"][name]["prompt_hash"]:
            found.append(f"{name} was put in other words in A than in B (winnow prompt shows them)")
        verifiers = [described(side["sets"][name]["verifier"]) for side in (first, second)]
        if verifiers[0] != verifiers[1]:
            found.append(f"{name} was judged by {verifiers[0]} in A and by {verifiers[1]} in B")
    return found


def paired(left: Path, right: Path) -> tuple[np.ndarray, np.ndarray]:
    """(P, G) of each side, over the prompts that both have.

    Raises:
        ConfigError: there are none, or one key stands for two problems.
    """
    a, b = ({group[0].prompt_key: group for group in by_prompt(sample.read(path))} for path in (left, right))
    keys = [key for key in a if key in b]
    if not keys:
        raise ConfigError(f"{left} and {right} have no prompt in common")
    if other := next((key for key in keys if a[key][0].gold != b[key][0].gold), None):
        raise ConfigError(
            f"{other}: its gold is {a[other][0].gold!r} in {left} and {b[other][0].gold!r} in {right}; "
            "they are not of the same problems"
        )
    return correct_of([a[key] for key in keys]), correct_of([b[key] for key in keys])


def row(name: str, a: np.ndarray, b: np.ndarray) -> str:
    difference, table = paired_difference(a, b), flips(a, b)
    cells = [name, str(len(a)), percent(accuracy(a)), percent(accuracy(b)), signed(difference), *counts(table)]
    return f"| {' | '.join(cells)} |"


def counts(table: FlipTable) -> list[str]:
    return [str(table.both), str(table.only_a), str(table.only_b), str(table.neither), f"{table.p_value:.3g}"]


def signed(difference: Interval) -> str:
    """`+2.1 (−0.3 to +4.5)`, in percentage points, and whether that is inside the noise."""
    centre, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (difference.estimate, difference.low, difference.high)
    )
    noise = ", inside noise" if difference.low <= 0 <= difference.high else ""
    return f"{centre} ({low} to {high}{noise})"
