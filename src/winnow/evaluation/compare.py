"""`winnow compare A B`: two evaluations paired by prompt."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np

from winnow.errors import ConfigError
from winnow.evaluation.intervals import FlipTable, Interval, accuracy, flips, paired_difference
from winnow.evaluation.results import (
    average_accuracy,
    by_prompt,
    correct_matrix,
    percent_interval,
    read_results,
    results_table,
    saved_plan,
    set_figures,
    verifier_name,
    write_plan,
    write_results,
    write_summary,
)
from winnow.evaluation.storage import EvaluationSample, SampleStore, read_samples
from winnow.rewards.verifier import Verifier
from winnow.verdict import Verdict

COMPARED_SETTINGS = ("seed", "samples", "temperature", "max_tokens")


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
        *(f"note: {note}" for note in setting_differences(first, second, shared)),
        "",
        "| set | prompts | A | B | B − A | both | only A | only B | neither | McNemar p |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in shared:
        left, right = (Path(d) / "samples" / f"{name}.parquet" for d in (a, b))
        lines.append(_set_row(name, *paired_verdicts(left, right)))
    lines += ["", "A prompt counts as solved where at least half of its samples are right; intervals are 95 %."]
    return "\n".join(lines)


def setting_differences(first: dict, second: dict, shared: Sequence[str]) -> list[str]:
    """What else differs, and so may explain a difference."""
    found = [
        f"{key} is {first[key]} in A and {second[key]} in B" for key in COMPARED_SETTINGS if first[key] != second[key]
    ]
    for name in shared:
        if first["sets"][name]["prompt_hash"] != second["sets"][name]["prompt_hash"]:
            found.append(f"{name} was put in other words in A than in B (winnow prompt shows them)")
        verifiers = [verifier_name(side["sets"][name]["verifier"]) for side in (first, second)]
        if verifiers[0] != verifiers[1]:
            found.append(f"{name} was judged by {verifiers[0]} in A and by {verifiers[1]} in B")
    return found


def paired_verdicts(left: Path, right: Path) -> tuple[np.ndarray, np.ndarray]:
    """(P, G) of each side, over the prompts that both have.

    Raises:
        ConfigError: there are none, or one key stands for two problems.
    """
    a, b = ({group[0].prompt_key: group for group in by_prompt(read_samples(path))} for path in (left, right))
    keys = [key for key in a if key in b]
    if not keys:
        raise ConfigError(f"{left} and {right} have no prompt in common")
    if other := next((key for key in keys if a[key][0].gold != b[key][0].gold), None):
        raise ConfigError(
            f"{other}: its gold is {a[other][0].gold!r} in {left} and {b[other][0].gold!r} in {right}; "
            "they are not of the same problems"
        )
    return correct_matrix([a[key] for key in keys]), correct_matrix([b[key] for key in keys])


def _set_row(name: str, a: np.ndarray, b: np.ndarray) -> str:
    difference, table = paired_difference(a, b), flips(a, b)
    cells = [
        name,
        str(len(a)),
        percent_interval(accuracy(a)),
        percent_interval(accuracy(b)),
        signed_points(difference),
        *_flip_cells(table),
    ]
    return f"| {' | '.join(cells)} |"


def _flip_cells(table: FlipTable) -> list[str]:
    return [str(table.both), str(table.only_a), str(table.only_b), str(table.neither), f"{table.p_value:.3g}"]


def signed_points(difference: Interval) -> str:
    """`+2.1 (−0.3 to +4.5)`, in percentage points, and whether that is inside the noise."""
    centre, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (difference.estimate, difference.low, difference.high)
    )
    noise = ", inside noise" if difference.low <= 0 <= difference.high else ""
    return f"{centre} ({low} to {high}{noise})"


JUDGED_AT_ONCE = 4096


def rescore(source: Path, target: Path, verifiers: Callable[[str], Verifier], out: TextIO) -> None:
    """Judge every response in `source` anew, each set by what `verifiers` gives for its name, and write `target`.

    Raises:
        ConfigError: `source` is no evaluation that has ended, or `target` is there already.
    """
    began = time.perf_counter()
    before = read_results(source)
    if target.exists():
        raise ConfigError(f"{target}: is there already; type the name of a new directory")
    (target / "samples").mkdir(parents=True)
    subject, found, store = saved_plan(before), [], SampleStore(target / "samples")
    for name, plan in subject.sets.items():
        old = read_samples(source / "samples" / f"{name}.parquet")
        with verifiers(name) as pool:
            new, settings = _judged_again(old, pool), pool.settings
        subject = replace(subject, sets=subject.sets | {name: replace(plan, verifier=settings)})
        store.write(name, 0, new)
        store.seal(name, 1)
        found.append(set_figures(name, new, before["sets"][name]["whole"], settings))
        flips = Counter((a.verdict, b.verdict) for a, b in zip(old, new, strict=True) if a.verdict != b.verdict)
        changed = ", ".join(f"{was} → {now} {count}" for (was, now), count in flips.most_common())
        out.write(f"{name}: {sum(flips.values())} of {len(new)} verdicts changed{': ' + changed if changed else ''}\n")
    seconds = time.perf_counter() - began
    write_plan(target, subject)
    write_results(target, subject, found, seconds)
    write_summary(target, subject, average_accuracy(found), seconds)
    (target / "results.md").write_text(results_table(found) + "\n")
    out.write(f"\n{results_table(found)}\n")


def _judged_again(samples: Sequence[EvaluationSample], pool: Verifier) -> list[EvaluationSample]:
    found = []
    for start in range(0, len(samples), JUDGED_AT_ONCE):
        some = samples[start : start + JUDGED_AT_ONCE]
        for s, judgement in zip(some, pool.judge([s.gold for s in some], [s.response for s in some]), strict=True):
            found.append(
                replace(
                    s,
                    extracted=judgement.answer,
                    verdict=judgement.verdict.value,
                    correct=judgement.verdict is Verdict.correct,
                    seconds=judgement.seconds,
                )
            )
    return found
