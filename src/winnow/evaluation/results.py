"""Figures of an evaluation with 95 % intervals over prompts, and the files that hold them.

`evaluation.json` holds the plan: what is evaluated and how. `results.json` and `results.md` hold the figures of each
set, and `summary.json` the few that a sweep puts into its table.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from winnow.errors import ConfigError
from winnow.evaluation.intervals import Interval, accuracy, clustered_mean, majority_at_k, pass_at_k, powers_of_two
from winnow.files import parsed_json, read_regular, replace_json, replace_text
from winnow.rewards.answers.text import normalize
from winnow.run_logs.run_files import SampleRecord
from winnow.run_logs.run_record import run_id
from winnow.types import Finish

VerifierSettings = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class SetFigures:
    """Figures of one evaluation set.

    `prompts` were evaluated of `whole` that the set has. `accuracy` is avg@k, `majority` maj@k for k = `samples`, and
    `pass_at` holds pass@k by k. `length` is in tokens. `verifier` holds the name and the settings of the verifier.
    """

    name: str
    prompts: int
    whole: int
    samples: int
    accuracy: Interval
    pass_at: dict[int, Interval]
    majority: Interval
    length: Interval
    truncated: Interval
    verdicts: dict[str, int]
    verifier: VerifierSettings


def by_prompt(samples: Sequence[SampleRecord]) -> list[list[SampleRecord]]:
    """Samples grouped by prompt, in the order of the file. All groups have the same size."""
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.prompt_key)]


def correct_matrix(groups: Sequence[Sequence[SampleRecord]]) -> np.ndarray:
    """(P, G) booleans: which samples are correct."""
    return np.array([[sample.correct for sample in group] for group in groups])


def set_figures(name: str, samples: Sequence[SampleRecord], whole: int, verifier: VerifierSettings) -> SetFigures:
    """The figures of a set, given its judged samples."""
    groups = by_prompt(samples)
    correct = correct_matrix(groups)
    answers = [[None if s.extracted is None else normalize(s.extracted) for s in group] for group in groups]
    return SetFigures(
        name=name,
        prompts=len(groups),
        whole=whole,
        samples=correct.shape[1],
        accuracy=accuracy(correct),
        pass_at={k: pass_at_k(correct, k) for k in powers_of_two(correct.shape[1])},
        majority=majority_at_k(answers, correct),
        length=clustered_mean(np.array([[s.length for s in group] for group in groups], dtype=float)),
        truncated=accuracy(np.array([[s.finish == Finish.LENGTH for s in group] for group in groups])),
        verdicts=dict(Counter(s.verdict for s in samples).most_common()),
        verifier=verifier,
    )


def average_accuracy(sets: Sequence[SetFigures]) -> Interval:
    """Plain mean of the sets' accuracies (paper, section 4).

    The sets are independent, so the half-widths of their intervals add in squares.
    """
    centre = sum(s.accuracy.estimate for s in sets) / len(sets)
    low = math.hypot(*(s.accuracy.estimate - s.accuracy.low for s in sets)) / len(sets)
    high = math.hypot(*(s.accuracy.high - s.accuracy.estimate for s in sets)) / len(sets)
    return Interval(centre, centre - low, centre + high)


def results_table(sets: Sequence[SetFigures]) -> str:
    """Markdown table of per cents with intervals: a row per set, and their average if there are several."""
    rows = [
        ("set", "prompts", "k", "avg@k", "pass@k", "maj@k", "mean length", "truncated", "no answer", "verifier"),
        *map(_result_cells, sets),
    ]
    if len(sets) > 1:
        rows.append(("average", "", "", percent_interval(average_accuracy(sets)), *[""] * 6))
    return markdown_table(rows)


def _result_cells(s: SetFigures) -> tuple[str, ...]:
    return (
        s.name,
        f"{s.prompts}" if s.prompts == s.whole else f"{s.prompts} of {s.whole}",
        str(s.samples),
        percent_interval(s.accuracy),
        percent_interval(s.pass_at[s.samples]),
        percent_interval(s.majority),
        f"{s.length.estimate:.0f}",
        f"{s.truncated.estimate:.1%}",
        f"{s.verdicts.get('no_answer', 0) / (s.prompts * s.samples):.1%}",
        verifier_name(s.verifier),
    )


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown table whose first row is its head."""
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def percent_interval(interval: Interval) -> str:
    """An interval in per cent, like `81.3 (79.9–82.6)`."""
    return f"{interval.estimate:.1%}"[:-1] + f" ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def verifier_name(verifier: VerifierSettings) -> str:
    """A verifier with its settings, like `numeric (relative 0.0001)`."""
    inside = ", ".join(f"{key} {value}" for key, value in verifier.items() if key != "name")
    return f"{verifier['name']} ({inside})" if inside else str(verifier["name"])


PLAN_FILE, RESULTS_FILE = "evaluation.json", "results.json"


@dataclass(frozen=True, slots=True)
class SetPlan:
    """An evaluation set as `evaluation.json` holds it.

    `prompt_hash` is the hash of its first rendered prompt, `content` that of all its prompts and gold answers.
    """

    prompts: int
    prompt_hash: str
    content: str
    verifier: VerifierSettings


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The subject and the settings of an evaluation, as `evaluation.json` holds them.

    These are all that a sample or its verdict depends on. `weights` is a fingerprint of the weights. `batch` (prompts
    per batch), `device` and `precision` are included because they decide the last bits of a float32. `engine` is the
    class that samples.
    """

    model: str
    path: str
    weights: str
    seed: int
    samples: int
    temperature: float
    max_tokens: int
    batch: int
    device: str
    precision: str
    engine: str
    sets: dict[str, SetPlan]


def write_plan(directory: Path, plan: EvaluationPlan) -> None:
    """Record in `directory` what is about to be evaluated, or verify that it is still the same. Sets may be added.

    Raises:
        ConfigError: the samples in `directory` belong to another plan.
    """
    path, now = directory / PLAN_FILE, json.loads(json.dumps(asdict(plan)))
    if path.exists():
        before = _plan_before(path)
        if changed := list(_changes(before, now)):
            raise ConfigError(
                f"{directory} holds another evaluation: {'; '.join(changed)}; type another directory for this one "
                "(winnow rescore judges stored responses anew)"
            )
        now["sets"] = before["sets"] | now["sets"]
    replace_json(path, now)


def _plan_before(path: Path) -> dict:
    try:
        before = parsed_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read; type another directory for this evaluation") from error
    if not isinstance(before, dict) or not isinstance(before.get("sets"), dict):
        raise ConfigError(f"{path}: is not the plan of an evaluation; type another directory for this evaluation")
    return before


def _changes(before: dict, now: dict) -> Iterator[str]:
    for key in now:
        if key != "sets" and before.get(key) != now[key]:
            yield f"{key} was {before.get(key)} and is {now[key]}"
    for name in before["sets"].keys() & now["sets"].keys():
        old, new = before["sets"][name], now["sets"][name]
        yield from (f"{key} of {name} was {old[key]} and is {new[key]}" for key in new if old[key] != new[key])


def saved_plan(results: dict) -> EvaluationPlan:
    """The plan that `write_figures` stored along with its figures."""
    names = [field.name for field in fields(SetPlan)]
    sets = {name: SetPlan(**{key: s[key] for key in names}) for name, s in results["sets"].items()}
    plain: dict[str, Any] = {field.name: results[field.name] for field in fields(EvaluationPlan)}
    plain["sets"] = sets
    return EvaluationPlan(**plain)


def write_figures(
    directory: Path, plan: EvaluationPlan, sets: Sequence[SetFigures], seconds: float, revisions: Mapping[str, str]
) -> None:
    """Write `results.json`, `results.md` and `summary.json`, from which a sweep takes its row.

    `revisions` are the commits of hub datasets that were read.
    """
    planned, average = asdict(plan), average_accuracy(sets)
    found = {
        **planned,
        "sets": {s.name: planned["sets"][s.name] | asdict(s) for s in sets},
        "average": asdict(average),
        "seconds": seconds,
        "revisions": dict(revisions),
    }
    replace_json(directory / RESULTS_FILE, found)
    replace_text(directory / "results.md", results_table(sets) + "\n")
    summary = {"status": "done", "model": plan.model, "seed": plan.seed, "eval_last": average.estimate}
    replace_json(
        directory / "summary.json",
        summary | {"seconds": seconds, "run": run_id(directory), "revisions": dict(revisions)},
    )


def read_results(directory: Path) -> dict:
    """The contents of `results.json`.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    try:
        return json.loads((directory / RESULTS_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"{directory}: no {RESULTS_FILE}, so no finished evaluation; resume={directory} continues one that was "
            "interrupted"
        ) from error
