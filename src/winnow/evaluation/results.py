"""`results.json`: the figures of an evaluation with everything that they depend on."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from winnow.errors import ConfigError
from winnow.evaluation.figures import SetFigures, Settings, average
from winnow.evaluation.statistics import Interval

PLAN, RESULTS = "evaluation.json", "results.json"


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What is asked of a set: its first rendered prompt's hash, that of all its prompts and golds, and who judges."""

    prompts: int
    prompt_hash: str
    content: str
    verifier: Settings


@dataclass(frozen=True, slots=True)
class Subject:
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


def write_plan(directory: Path, subject: Subject) -> None:
    """Record what is about to be evaluated, or make sure that it is still the same; sets may come in addition.

    Raises:
        ConfigError: the samples in `directory` are of something else.
    """
    path, now = directory / PLAN, json.loads(json.dumps(asdict(subject)))
    if path.exists():
        before = json.loads(path.read_text())
        if changed := list(_changes(before, now)):
            raise ConfigError(
                f"{directory}: {'; '.join(changed)}; start anew to evaluate that (winnow rescore only judges anew)"
            )
        now["sets"] = before["sets"] | now["sets"]
    _replace(path, now)


def _changes(before: dict, now: dict) -> Iterator[str]:
    for key in now:
        if key != "sets" and before.get(key) != now[key]:
            yield f"{key} was {before.get(key)} and is {now[key]}"
    for name in before["sets"].keys() & now["sets"].keys():
        old, new = before["sets"][name], now["sets"][name]
        yield from (f"{key} of {name} was {old[key]} and is {new[key]}" for key in new if old[key] != new[key])


def write_results(directory: Path, subject: Subject, sets: Sequence[SetFigures], seconds: float) -> None:
    plan = asdict(subject)
    found = {
        **plan,
        "sets": {s.name: plan["sets"][s.name] | asdict(s) for s in sets},
        "average": asdict(average(sets)),
        "seconds": seconds,
    }
    _replace(directory / RESULTS, found)


def write_summary(directory: Path, subject: Subject, accuracy: Interval, seconds: float) -> None:
    """`summary.json`, from which a sweep takes its row."""
    found = {"status": "done", "model": subject.model, "seed": subject.seed, "eval_last": accuracy.estimate}
    _replace(directory / "summary.json", found | {"seconds": seconds})


def read_results(directory: Path) -> dict:
    """
    Raises:
        ConfigError: there are none.
    """
    try:
        return json.loads((directory / RESULTS).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"{directory}: no {RESULTS}; type the directory of an evaluation that has ended (resume=… goes on with one)"
        ) from error


def subject_of(found: dict) -> Subject:
    """The subject that `write_results` wrote."""
    names = [field.name for field in fields(SetPlan)]
    sets = {name: SetPlan(**{key: s[key] for key in names}) for name, s in found["sets"].items()}
    plain: dict[str, Any] = {field.name: found[field.name] for field in fields(Subject)}
    plain["sets"] = sets
    return Subject(**plain)


def _replace(path: Path, value: dict) -> None:
    neighbour = path.with_name(f".{path.name}.tmp")
    neighbour.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(neighbour, path)


def _finite(value: object) -> object:
    """The ends of an interval that one prompt gives are infinite, which JSON cannot say: null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
