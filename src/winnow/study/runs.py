"""What is read of a run directory, and of a job that left no finished run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from winnow.errors import ConfigError
from winnow.report.run_files import EvaluationCounts as Counts
from winnow.report.run_files import RunFiles

OF_EVALUATION = ("evaluation.json", "results.json")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML was built with libyaml


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A run. `arm` is its label in the study. Interpolations in `config` are as written, `${rollout.max_tokens}`."""

    directory: Path
    arm: str
    seed: int
    config: Mapping[str, object]
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    rows: tuple[Mapping[str, float], ...]
    evaluations: tuple[Counts, ...]
    status: str
    iterations: int


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job without a finished run. `reason` is the last line that it printed, or the error in its `summary.json`."""

    directory: Path
    overrides: str
    status: str
    exit_code: int | None
    reason: str


def is_run(directory: Path) -> bool:
    """Whether a training run was started here. Evaluations have a `.hydra/` too, but results instead of metrics."""
    if (directory / "metrics.jsonl").is_file():
        return True
    return (directory / ".hydra").is_dir() and not any((directory / name).exists() for name in OF_EVALUATION)


def status(directory: Path) -> str:
    """`done`, or another word of its `summary.json`, or `never ended`."""
    return str(ended(directory).get("status", "never ended"))


def overrides_of(directory: Path) -> tuple[str, ...]:
    """What was typed.

    Raises:
        ConfigError: it was not recorded.
    """
    content = _yaml(directory, "overrides.yaml")
    return tuple(map(str, content)) if isinstance(content, list) else ()


def ended(directory: Path) -> Mapping[str, object]:
    """A run's `summary.json`; empty where it left none."""
    path = directory / "summary.json"
    return _json(path, path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_run(directory: Path) -> StudyRun:
    """The run, under the label `arm` or `algo` that was chosen, without further words.

    Raises:
        ConfigError: a file of the run is missing or cannot be read.
    """
    config = _mapping(directory, "config.yaml")
    choices = _choices(directory)
    summary = ended(directory)
    rows = tuple(RunFiles(directory).rows())
    return StudyRun(
        directory=directory,
        arm=_chosen(directory, choices),
        seed=int(str(config.get("seed", summary.get("seed", 0)))),
        config=config,
        overrides=overrides_of(directory),
        choices=choices,
        rows=rows,
        evaluations=tuple(_evaluations(directory)),
        status=status(directory),
        iterations=int(max((row["iteration"] for row in rows), default=0)),
    )


def last_words(directory: Path) -> str:
    """The last line of `output.log`, else the error of `summary.json`, else words for their absence."""
    log = directory / "output.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    error = ended(directory).get("error")
    return lines[-1].strip() if lines else str(error) if error else "it left no word: still running, or killed"


def _chosen(directory: Path, choices: Mapping[str, str]) -> str:
    chosen = choices.get("arm") or choices.get("algo")
    if not chosen:
        raise ConfigError(
            f"{directory / '.hydra/hydra.yaml'}: neither an arm nor an algo was chosen; no run of train.py"
        )
    return chosen.rsplit("/")[-1]  # arm=paper/dpo is the arm dpo at another size


def _choices(directory: Path) -> dict[str, str]:
    node = _mapping(directory, "hydra.yaml")
    for key in ("hydra", "runtime", "choices"):
        node = node.get(key) or {}
    return {str(group): str(choice) for group, choice in node.items() if choice is not None}


def _mapping(directory: Path, name: str) -> dict:
    content = _yaml(directory, name)
    return content if isinstance(content, dict) else {}


def _yaml(directory: Path, name: str) -> object:
    path = directory / ".hydra" / name
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, _LOADER)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: a run is compared by it; copy the run with its .hydra/") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _evaluations(directory: Path) -> Iterable[Counts]:
    """In order, the last line of an iteration and set, as a resume may have written it again."""
    try:
        counts = RunFiles(directory).evaluations()
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        path = directory / "evaluations.jsonl"
        raise ConfigError(f"{path}: not rows of iteration, set, samples, prompts and correct ({error})") from error
    return {(one.iteration, one.set): one for one in counts}.values()


def _json(path: Path, text: str) -> dict:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
