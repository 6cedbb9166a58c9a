"""What a run leaves behind: `metrics.jsonl`, `evaluations.jsonl`, `samples/`, `summary.json`. All else is drawn from these."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, ParamSpec

RENAMED_METRICS = {"train/tokens_total": "train/sampled_tokens_total", "train/signal/": "train/gradient_mass/"}
"""Names, and prefixes that end in a slash, under which earlier versions of Winnow recorded metrics, with today's."""

Status = Literal["running", "done", "failed", "diverged", "preempted", "interrupted"]


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One judged response. `sample` is its index among the prompt's samples, `length` counts tokens with the EOS."""

    iteration: int
    prompt_key: str
    sample: int
    prompt: str
    response: str
    answer: str
    extracted: str | None
    verdict: str
    reward: float
    advantage: float | None
    kept: bool
    length: int
    finish: str


@dataclass(frozen=True, slots=True)
class EvaluationCounts:
    """How many of the `samples` of each prompt of a set were right, in the set's order.

    `prompts` names the prompts and their order: counts of two runs are of the same prompts where it agrees.
    """

    iteration: int
    set: str
    samples: int
    prompts: str
    correct: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    `eval_first` and `eval_last` are held-out accuracies (0 to 1) before and after training, None where there was no
    evaluation; `iterations` is how many are done; `seconds` is what they took, also before a resume. `prompt_hash` is that
    of the first training problem's rendered prompt; `verifiers` names the one that judges each evaluation set.
    """

    status: Status
    algo: str
    model: str
    dataset: str
    seed: int
    iterations: int
    eval_first: float | None
    eval_last: float | None
    sampled_tokens: int
    trained_tokens: int
    seconds: float
    prompt_hash: str = ""
    verifiers: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    resumed_from: int | None = None


class RunFiles:
    """The files of one run directory. Only the first rank writes them.

    Rows are flushed line by line and never fsynced: what was appended outlives the process, but perhaps not the machine's power.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics = directory / "metrics.jsonl"
        self.evaluated = directory / "evaluations.jsonl"
        self.samples = directory / "samples"
        self.summary = directory / "summary.json"

    def append(self, row: Mapping[str, float | int]) -> None:
        """Add one iteration's row. Floats read back bit for bit; non-finite ones are written as null.

        Raises:
            KeyError: the row has no "iteration".
        """
        line = _line({"iteration": row["iteration"], **row})
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(line)

    def rows(self) -> list[dict[str, float]]:
        """All rows, in order, nulls as NaN; none if there is no file yet. A line that a crash cut short is not a row."""
        return [
            {current_name(key): math.nan if value is None else value for key, value in json.loads(line).items()}
            for line in _lines(self.metrics)
        ]

    def append_evaluations(self, counts: Sequence[EvaluationCounts]) -> None:
        """Add one evaluation, a line a set."""
        with self.evaluated.open("a", encoding="utf-8") as file:
            file.write("".join(_line(asdict(of_set)) for of_set in counts))

    def evaluations(self) -> list[EvaluationCounts]:
        """All evaluations, in order; none if there is no file yet. A line that a crash cut short is none."""
        read = [json.loads(line) for line in _lines(self.evaluated)]
        return [EvaluationCounts(**line | {"correct": tuple(line["correct"])}) for line in read]

    def truncate_after(self, iteration: int) -> None:
        """Forget what was recorded after `iteration`, as a resume from its checkpoint will record it again."""
        for path in (self.metrics, self.evaluated):
            _keep(path, iteration)
        for path in self.samples.glob("iteration_*.jsonl"):
            if int(path.stem.removeprefix("iteration_")) > iteration:
                path.unlink()

    def amend_last(self, more: Mapping[str, float | int], counts: Sequence[EvaluationCounts]) -> None:
        """Add an evaluation that was made late to the last row, and its counts; done twice it is as done once."""
        *before, last = _lines(self.metrics)
        row = json.loads(last)
        _keep(self.evaluated, row["iteration"] - 1)
        self.append_evaluations(counts)
        _replace_file(self.metrics, "".join([*before, _line(row | dict(more))]))

    def write_samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Write `samples/iteration_000010.jsonl`, a row a response, whole or not at all."""
        self.samples.mkdir(exist_ok=True)
        path = self.samples / f"iteration_{iteration:06d}.jsonl"
        _replace_file(path, "".join(_line(asdict(record)) for record in records))

    def write_summary(self, summary: Summary) -> None:
        """Write `summary.json`, whole or not at all."""
        _replace_file(self.summary, json.dumps(_finite(asdict(summary)), indent=2, ensure_ascii=False) + "\n")


def current_name(metric: str) -> str:
    """Today's name of a metric, given the name under which a run recorded it."""
    for old, new in RENAMED_METRICS.items():
        if metric == old or (old.endswith("/") and metric.startswith(old)):
            return new + metric.removeprefix(old)
    return metric


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    # Not splitlines(): it would also break at U+2028 and friends. A last line without an end was cut short.
    with path.open(encoding="utf-8", newline="\n") as file:
        return [line for line in file if line.endswith("\n")]


def _keep(path: Path, iteration: int) -> None:
    """The lines up to `iteration`."""
    if path.exists():
        _replace_file(path, "".join(line for line in _lines(path) if json.loads(line)["iteration"] <= iteration))


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(row: Mapping[str, object]) -> dict[str, object]:
    """NaN and infinities become None: they are not JSON, and half of its readers refuse them."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}


def _replace_file(path: Path, text: str) -> None:
    """Put `text` at `path` in one step, through a neighbour: a rename is atomic within one file system only.

    A lone surrogate, which a byte-level tokenizer may decode to, is not UTF-8; backslashreplace turns it into the
    JSON escape that reads back as the same character.
    """
    neighbour = path.with_name(f".{path.name}.tmp")
    with neighbour.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    neighbour.replace(path)


P = ParamSpec("P")


class BackgroundWriter:
    """Does what it is given in order, in one thread beside; `wait` raises what went wrong, as the next `do` does."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._begun: list[Future[object]] = []

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """`args` must not change any more."""
        for past in [future for future in self._begun if future.done()]:
            self._begun.remove(past)
            past.result()
        self._begun.append(self._thread.submit(work, *args, **kwargs))

    def wait(self) -> None:
        """Until everything is done, whatever fails."""
        begun, self._begun = self._begun, []
        errors = [error for future in begun if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
