"""Comparison of two evaluations, paired by prompt (`winnow compare`), and re-judging of one (`winnow rescore`)."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np

from winnow.errors import ConfigError
from winnow.evaluation.intervals import Interval, accuracy, flips, paired_difference
from winnow.evaluation.results import (
    by_prompt,
    correct_matrix,
    markdown_table,
    percent_interval,
    read_results,
    results_table,
    saved_plan,
    set_figures,
    verifier_name,
    write_figures,
    write_plan,
)
from winnow.evaluation.storage import SampleStore, read_samples
from winnow.rewards.verifier import Verifier
from winnow.run_logs.plugin_code import edited_modules
from winnow.run_logs.run_files import SampleRecord
from winnow.run_logs.run_record import read_record
from winnow.visible_text import visible

COMPARED_SETTINGS = ("seed", "samples", "temperature", "max_tokens")


def compare(a: Path, b: Path) -> str:
    """Markdown: the accuracies of each set that both have, their difference B − A, and the prompts that flipped.

    Raises:
        ConfigError: one of them is not a finished evaluation, or they have no prompt in common.
    """
    first, second = read_results(a), read_results(b)
    shared = [name for name in first["sets"] if name in second["sets"]]
    if not shared:
        raise ConfigError(f"{a} has {', '.join(first['sets'])}, {b} has {', '.join(second['sets'])}: no set in common")
    rows: list[tuple[str, ...]] = [
        ("set", "prompts", "A", "B", "B − A", "both", "only A", "only B", "neither", "McNemar p")
    ]
    for name in shared:
        left, right = (directory / "samples" / f"{name}.parquet" for directory in (a, b))
        rows.append((name, *_set_cells(*paired_verdicts(left, right))))
    return "\n".join(
        [
            f"A: {a} ({first['model']}, {first['path']})",
            f"B: {b} ({second['model']}, {second['path']})",
            *(f"note: {note}" for note in (*setting_differences(first, second, shared), *_code_differences(a, b))),
            "",
            markdown_table(rows),
            "",
            "A prompt counts as solved if at least half of its samples are correct; intervals are 95 %.",
        ]
    )


def setting_differences(first: dict, second: dict, shared: Sequence[str]) -> list[str]:
    """Differences in settings, prompts and verifiers, which may explain a difference in accuracy."""
    found = [
        f"{key} is {first[key]} in A and {second[key]} in B" for key in COMPARED_SETTINGS if first[key] != second[key]
    ]
    for name in shared:
        if first["sets"][name]["prompt_hash"] != second["sets"][name]["prompt_hash"]:
            found.append(f"the prompts of {name} are worded differently in A and B (winnow prompt shows them)")
        verifiers = [verifier_name(side["sets"][name]["verifier"]) for side in (first, second)]
        if verifiers[0] != verifiers[1]:
            found.append(f"{name} was judged by {verifiers[0]} in A and by {verifiers[1]} in B")
    return found


def _code_differences(a: Path, b: Path) -> list[str]:
    """A sentence for each module of a plug-in, such as a reward function's, that was edited between two evaluations."""
    code = [record.starts[-1].code for record in map(read_record, (a, b)) if record is not None and record.starts]
    return [f"the code of {module} is not the same in A and B" for module in edited_modules(*code)] if code[1:] else []


def paired_verdicts(left: Path, right: Path) -> tuple[np.ndarray, np.ndarray]:
    """(P, G) verdicts of each side, over the P prompts that both have.

    Raises:
        ConfigError: they have no prompt in common, or one key stands for two problems.
    """
    a, b = ({group[0].prompt_key: group for group in by_prompt(read_samples(path))} for path in (left, right))
    keys = [key for key in a if key in b]
    if not keys:
        raise ConfigError(f"{left} and {right} have no prompt in common")
    if other := next((key for key in keys if a[key][0].answer != b[key][0].answer), None):
        raise ConfigError(
            f"{other}: its gold is {a[other][0].answer!r} in {left} and {b[other][0].answer!r} in {right}; "
            "these are evaluations of different problems"
        )
    return correct_matrix([a[key] for key in keys]), correct_matrix([b[key] for key in keys])


def _set_cells(a: np.ndarray, b: np.ndarray) -> tuple[str, ...]:
    table = flips(a, b)
    return (
        str(len(a)),
        percent_interval(accuracy(a)),
        percent_interval(accuracy(b)),
        signed_points(paired_difference(a, b)),
        *map(str, (table.both, table.only_a, table.only_b, table.neither)),
        f"{table.p_value:.3g}",
    )


def signed_points(difference: Interval) -> str:
    """A difference in percentage points, like `+2.1 (−0.3 to +4.5, inside noise)`.

    "Inside noise" means that the interval includes 0.
    """
    centre, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (difference.estimate, difference.low, difference.high)
    )
    noise = ", inside noise" if difference.low <= 0 <= difference.high else ""
    return f"{centre} ({low} to {high}{noise})"


JUDGED_AT_ONCE = 4096


def rescore(source: Path, target: Path, verifiers: Callable[[str], Verifier], out: TextIO) -> None:
    """Judge every stored response of `source` again, without sampling, and write the evaluation `target`.

    `verifiers` maps the name of a set to the verifier that judges it.

    Raises:
        ConfigError: `source` is not a finished evaluation, or `target` exists.
    """
    began = time.perf_counter()
    before = read_results(source)
    if by_reward := [name for name, s in before["sets"].items() if s["verifier"]["name"] == "reward"]:
        raise ConfigError(
            f"{source}: a reward function says what is correct in {by_reward[0]} (reward.success), and rescore judges "
            "by verifiers; evaluate again instead"
        )
    if target.exists():
        raise ConfigError(f"{target} exists; type the name of a new directory")
    (target / "samples").mkdir(parents=True)
    plan, found, store = saved_plan(before), [], SampleStore(target / "samples")
    for name, of_set in plan.sets.items():
        old = read_samples(source / "samples" / f"{name}.parquet")
        with verifiers(name) as pool:
            new, settings = _judged_again(old, pool), pool.settings
        plan = replace(plan, sets=plan.sets | {name: replace(of_set, verifier=settings)})
        store.write(name, 0, new)
        store.seal(name, 1)
        found.append(set_figures(name, new, before["sets"][name]["whole"], settings))
        changes = Counter((a.verdict, b.verdict) for a, b in zip(old, new, strict=True) if a.verdict != b.verdict)
        each = ", ".join(f"{was} → {now} {count}" for (was, now), count in changes.most_common())
        out.write(
            f"{visible(name)}: {sum(changes.values())} of {len(new)} verdicts changed{': ' + each if each else ''}\n"
        )
    write_plan(target, plan)
    write_figures(target, plan, found, time.perf_counter() - began, before.get("revisions", {}))
    out.write(f"\n{results_table(found)}\n")


def _judged_again(samples: Sequence[SampleRecord], pool: Verifier) -> list[SampleRecord]:
    found = []
    for start in range(0, len(samples), JUDGED_AT_ONCE):
        some = samples[start : start + JUDGED_AT_ONCE]
        judgements = pool.judge([s.answer for s in some], [s.response for s in some])
        found += [
            replace(s, extracted=judgement.answer, verdict=judgement.verdict.value, seconds=judgement.seconds)
            for s, judgement in zip(some, judgements, strict=True)
        ]
    return found
