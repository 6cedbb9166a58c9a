"""What the samples of a set come to, with 95 % intervals over prompts."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from winnow.errors import ConfigError
from winnow.evaluation.intervals import Interval, accuracy, clustered_mean, majority_at_k, pass_at_k, powers_of_two
from winnow.evaluation.storage import EvaluationSample
from winnow.rewards.answer_text import normalize

VerifierSettings = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class SetFigures:
    """`accuracy` is avg@k for k = `samples`; lengths are in tokens; `verifier` is the one that judged, with its settings."""

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


def by_prompt(samples: Sequence[EvaluationSample]) -> list[list[EvaluationSample]]:
    """Groups of equal size, in the order of the file."""
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.prompt_key)]


def correct_matrix(groups: Sequence[Sequence[EvaluationSample]]) -> np.ndarray:
    """(P, G) of bool."""
    return np.array([[sample.correct for sample in group] for group in groups])


def set_figures(name: str, samples: Sequence[EvaluationSample], whole: int, verifier: VerifierSettings) -> SetFigures:
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
        truncated=accuracy(np.array([[s.truncated for s in group] for group in groups])),
        verdicts=dict(Counter(s.verdict for s in samples).most_common()),
        verifier=verifier,
    )


def average_accuracy(sets: Sequence[SetFigures]) -> Interval:
    """The plain mean of the sets' accuracies (paper section 4); sets are independent, so half-widths add in squares."""
    centre = sum(s.accuracy.estimate for s in sets) / len(sets)
    low = math.hypot(*(s.accuracy.estimate - s.accuracy.low for s in sets)) / len(sets)
    high = math.hypot(*(s.accuracy.high - s.accuracy.estimate for s in sets)) / len(sets)
    return Interval(centre, centre - low, centre + high)


def results_table(sets: Sequence[SetFigures]) -> str:
    """Markdown: a row a set, per cent with intervals, and their average where there are several."""
    lines = [
        "| set | prompts | k | avg@k | pass@k | maj@k | mean length | truncated | no answer | verifier |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in sets:
        drawn = s.prompts * s.samples
        part = f"{s.prompts}" if s.prompts == s.whole else f"{s.prompts} of {s.whole}"
        cells = [
            s.name,
            part,
            str(s.samples),
            percent_interval(s.accuracy),
            percent_interval(s.pass_at[s.samples]),
            percent_interval(s.majority),
            f"{s.length.estimate:.0f}",
            f"{s.truncated.estimate:.1%}",
            f"{s.verdicts.get('no_answer', 0) / drawn:.1%}",
            verifier_name(s.verifier),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if len(sets) > 1:
        lines.append(f"| average | | | {percent_interval(average_accuracy(sets))} | | | | | | |")
    return "\n".join(lines)


def percent_interval(interval: Interval) -> str:
    """`81.3 (79.9–82.6)`."""
    return f"{interval.estimate:.1%}"[:-1] + f" ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def verifier_name(verifier: VerifierSettings) -> str:
    """`numeric (relative 0.0001)`."""
    inside = ", ".join(f"{key} {value}" for key, value in verifier.items() if key != "name")
    return f"{verifier['name']} ({inside})" if inside else str(verifier["name"])


PLAN_FILE, RESULTS_FILE = "evaluation.json", "results.json"


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What is asked of a set: its first rendered prompt's hash, that of all its prompts and golds, and who judges."""

    prompts: int
    prompt_hash: str
    content: str
    verifier: VerifierSettings


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is evaluated and how: everything that a sample or its verdict depends on.

    `weights` is a fingerprint. `batch` (prompts at a time), `device` and `precision` decide the last bits of a float32;
    `engine` is the class that samples.
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


def write_plan(directory: Path, subject: EvaluationPlan) -> None:
    """Record what is about to be evaluated, or make sure that it is still the same; sets may come in addition.

    Raises:
        ConfigError: the samples in `directory` are of something else.
    """
    path, now = directory / PLAN_FILE, json.loads(json.dumps(asdict(subject)))
    if path.exists():
        before = json.loads(path.read_text())
        if changed := list(_changes(before, now)):
            raise ConfigError(
                f"{directory}: {'; '.join(changed)}; start anew to evaluate that (winnow rescore only judges anew)"
            )
        now["sets"] = before["sets"] | now["sets"]
    _replace_json(path, now)


def _changes(before: dict, now: dict) -> Iterator[str]:
    for key in now:
        if key != "sets" and before.get(key) != now[key]:
            yield f"{key} was {before.get(key)} and is {now[key]}"
    for name in before["sets"].keys() & now["sets"].keys():
        old, new = before["sets"][name], now["sets"][name]
        yield from (f"{key} of {name} was {old[key]} and is {new[key]}" for key in new if old[key] != new[key])


def write_results(directory: Path, subject: EvaluationPlan, sets: Sequence[SetFigures], seconds: float) -> None:
    plan = asdict(subject)
    found = {
        **plan,
        "sets": {s.name: plan["sets"][s.name] | asdict(s) for s in sets},
        "average": asdict(average_accuracy(sets)),
        "seconds": seconds,
    }
    _replace_json(directory / RESULTS_FILE, found)


def write_summary(directory: Path, subject: EvaluationPlan, accuracy: Interval, seconds: float) -> None:
    """`summary.json`, from which a sweep takes its row."""
    found = {"status": "done", "model": subject.model, "seed": subject.seed, "eval_last": accuracy.estimate}
    _replace_json(directory / "summary.json", found | {"seconds": seconds})


def read_results(directory: Path) -> dict:
    """
    Raises:
        ConfigError: there are none.
    """
    try:
        return json.loads((directory / RESULTS_FILE).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"{directory}: no {RESULTS_FILE}; type the directory of an evaluation that has ended (resume=… goes on with one)"
        ) from error


def saved_plan(found: dict) -> EvaluationPlan:
    """The subject that `write_results` wrote."""
    names = [field.name for field in fields(SetPlan)]
    sets = {name: SetPlan(**{key: s[key] for key in names}) for name, s in found["sets"].items()}
    plain: dict[str, Any] = {field.name: found[field.name] for field in fields(EvaluationPlan)}
    plain["sets"] = sets
    return EvaluationPlan(**plain)


def _replace_json(path: Path, value: dict) -> None:
    neighbour = path.with_name(f".{path.name}.tmp")
    neighbour.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(neighbour, path)


def _finite(value: object) -> object:
    """The ends of an interval that one prompt gives are infinite, which JSON cannot say: null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
