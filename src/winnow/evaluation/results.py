"""`results.json`: the figures of an evaluation with everything that they depend on."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from winnow.errors import ConfigError
from winnow.evaluation.figures import SetFigures, average
from winnow.evaluation.statistics import Interval

PLAN, RESULTS = "evaluation.json", "results.json"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated and how: two evaluations with equal subjects draw equal samples, a set they share at least.

    `weights` is a fingerprint, `prompt_hash` that of the first rendered prompt of each set.
    """

    model: str
    path: str
    weights: str
    prompt_hash: dict[str, str]
    seed: int
    samples: int
    temperature: float
    max_tokens: int


def write_plan(directory: Path, subject: Subject) -> None:
    """Record what is about to be evaluated, or make sure that it is still the same.

    Raises:
        ConfigError: the samples in `directory` are of something else.
    """
    path = directory / PLAN
    if path.exists():
        before = json.loads(path.read_text())
        now = json.loads(json.dumps(asdict(subject)))
        if changed := [f"{key} was {before.get(key)} and is {now[key]}" for key in now if before.get(key) != now[key]]:
            raise ConfigError(f"resume={directory}: {'; '.join(changed)}; start anew to evaluate that")
        return
    _replace(path, asdict(subject))


def write_results(directory: Path, subject: Subject, sets: Sequence[SetFigures], seconds: float) -> None:
    found = {
        **asdict(subject),
        "sets": {s.name: asdict(s) for s in sets},
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
    return Subject(**{field.name: found[field.name] for field in fields(Subject)})


def _replace(path: Path, value: dict) -> None:
    neighbour = path.with_name(f".{path.name}.tmp")
    neighbour.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    os.replace(neighbour, path)


def _finite(value: object) -> object:
    """The ends of an interval that one prompt gives are infinite, which JSON cannot say: null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
