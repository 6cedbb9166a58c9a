"""Files of a run directory: `metrics.jsonl`, `evaluations.jsonl`, `samples/*.jsonl` and `summary.json`.

Everything else that a run leaves behind (curves, model card, tracker entries, reports) is derived from these four.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal, ParamSpec

from winnow.files import finite_or_null, replace_json, replace_text
from winnow.run_logs.token_ids import decoded, encoded
from winnow.verdict import Verdict

RENAMED_METRICS = {"train/tokens_total": "train/sampled_tokens_total", "train/signal/": "train/gradient_mass/"}
"""Metric names, and prefixes that end in a slash, of earlier versions of Winnow, mapped to the current ones."""

Status = Literal["running", "done", "failed", "diverged", "preempted", "interrupted"]


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One judged response, of a training iteration or of an evaluation.

    `sample` is the response's index among the samples of its prompt, `answer` the gold answer and `extracted` the
    answer found in the response. `length` counts tokens, the EOS included. `seconds` is the time that the check took.
    `advantage` is None for a response that was not trained on, and so in an evaluation, where `kept` is False.
    `iteration` and `reward` are not stored with an evaluation: they are None in a record read from its Parquet file.
    `prompt_ids` and `response_ids` are the tokens that the model read and drew, special ones included, which the texts
    leave out; None in a record of a version that did not keep them.
    """

    iteration: int | None
    prompt_key: str
    sample: int
    prompt: str
    response: str
    answer: str
    extracted: str | None
    verdict: str
    reward: float | None
    advantage: float | None
    kept: bool
    length: int
    finish: str
    seconds: float = 0.0
    prompt_ids: tuple[int, ...] | None = None
    response_ids: tuple[int, ...] | None = None

    @property
    def correct(self) -> bool:
        return self.verdict == Verdict.correct

    def row(self) -> dict[str, object]:
        """The record's `SAMPLE_COLUMNS`, by name."""
        return {name: getattr(self, name) for name in SAMPLE_COLUMNS}

    def stored_row(self, before: "SampleRecord | None") -> dict[str, object]:
        """The line of `samples/*.jsonl` after that of the record `before`, whose prompt it does not repeat as ids."""
        repeated = before is not None and before.prompt_ids == self.prompt_ids
        ids = {"prompt_ids": None if repeated else self.prompt_ids, "response_ids": self.response_ids}
        return self.row() | {name: None if some is None else encoded(some) for name, some in ids.items()}

    @classmethod
    def of_stored_row(cls, row: Mapping[str, Any], before: "SampleRecord | None") -> "SampleRecord":
        """The record of a line, given the one before it. Older lines have no ids."""
        prompt, response = (None if row.get(name) is None else decoded(row[name]) for name in ID_COLUMNS)
        if prompt is None and response is not None and before is not None:
            prompt = before.prompt_ids
        return cls(**{name: row[name] for name in SAMPLE_COLUMNS}, prompt_ids=prompt, response_ids=response)


ID_COLUMNS = ("prompt_ids", "response_ids")
"""Keys of a line of `samples/*.jsonl` that hold token ids, as `token_ids.encoded` writes them."""
SAMPLE_COLUMNS = tuple(column.name for column in fields(SampleRecord) if column.name not in ("seconds", *ID_COLUMNS))
"""The other keys, in order. `seconds` differs between identical runs, so it is left out there."""


def read_samples(path: Path, limit: int | None = None) -> list[SampleRecord]:
    """The records of a file of `samples/`, or its first `limit`, in the order in which they were drawn."""
    records: list[SampleRecord] = []
    # Lines end at "\n" only: splitlines() would also break at U+2028, which a response may contain.
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in islice(file, limit):
            records.append(SampleRecord.of_stored_row(json.loads(line), records[-1] if records else None))
    return records


@dataclass(frozen=True, slots=True)
class EvaluationCounts:
    """Number of correct responses, out of `samples`, to each prompt of an evaluation set, in the set's order.

    `prompts` is a hash of the prompts' keys in order: two runs answered the same prompts if their hashes are equal.
    """

    iteration: int
    set: str
    samples: int
    prompts: str
    correct: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Final figures of a run, as `summary.json` holds them.

    `eval_first` and `eval_last` are held-out accuracies (0 to 1) before and after training, None if there was no
    evaluation. `iterations` counts those that are done, and `seconds` the time they took, including the time before a
    resume. `prompt_hash` is the hash of the first training problem's rendered prompt; `verifiers` names the verifier
    that judges each evaluation set.
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
    """Reader and writer of one run directory's files. Only the first rank writes.

    Rows are flushed line by line but not fsynced: an appended row survives the end of the process, though perhaps not a
    power failure.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics = directory / "metrics.jsonl"
        self.evaluated = directory / "evaluations.jsonl"
        self.samples = directory / "samples"
        self.summary = directory / "summary.json"

    def append(self, row: Mapping[str, float | int]) -> None:
        """Append one iteration's row to `metrics.jsonl`. Floats read back bit for bit; non-finite ones become null.

        Raises:
            KeyError: the row has no "iteration".
        """
        line = _line({"iteration": row["iteration"], **row})
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(line)

    def rows(self) -> list[dict[str, float]]:
        """All rows of `metrics.jsonl` in order, with null read as NaN; an empty list if there is no file yet.

        A last line that a crash cut short is left out.
        """
        return [
            {current_name(key): math.nan if value is None else value for key, value in json.loads(line).items()}
            for line in _lines(self.metrics)
        ]

    def append_evaluations(self, counts: Sequence[EvaluationCounts]) -> None:
        """Append one evaluation to `evaluations.jsonl`, a line for each set."""
        with self.evaluated.open("a", encoding="utf-8") as file:
            file.write("".join(_line(asdict(of_set)) for of_set in counts))

    def evaluations(self) -> list[EvaluationCounts]:
        """All evaluations in order, without a last line that a crash cut short; empty if there is no file yet."""
        read = [json.loads(line) for line in _lines(self.evaluated)]
        return [EvaluationCounts(**line | {"correct": tuple(line["correct"])}) for line in read]

    def truncate_after(self, iteration: int) -> None:
        """Delete what was recorded after `iteration`: a resume from that checkpoint records it again."""
        for path in (self.metrics, self.evaluated):
            _truncate(path, iteration)
        for path in self.samples.glob("iteration_*.jsonl"):
            if int(path.stem.removeprefix("iteration_")) > iteration:
                path.unlink()

    def amend_last(self, more: Mapping[str, float | int], counts: Sequence[EvaluationCounts]) -> None:
        """Add a belated evaluation to the last row, and its counts. Repeating the call changes nothing."""
        *before, last = _lines(self.metrics)
        row = json.loads(last)
        _truncate(self.evaluated, row["iteration"] - 1)
        self.append_evaluations(counts)
        replace_text(self.metrics, "".join([*before, _line(row | dict(more))]))

    def write_samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Write `samples/iteration_000010.jsonl` atomically, a line for each response."""
        self.samples.mkdir(exist_ok=True)
        path = self.samples / f"iteration_{iteration:06d}.jsonl"
        lines = [_line(record.stored_row(before)) for before, record in zip((None, *records), records, strict=False)]
        replace_text(path, "".join(lines))

    def write_summary(self, summary: Summary) -> None:
        """Write `summary.json` atomically."""
        replace_json(self.summary, asdict(summary))


def current_name(metric: str) -> str:
    """The current name of a metric, given the name under which a run recorded it."""
    for old, new in RENAMED_METRICS.items():
        if metric == old or (old.endswith("/") and metric.startswith(old)):
            return new + metric.removeprefix(old)
    return metric


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    # Not splitlines(), which would also break at U+2028 and the like. A last line without a line end was cut short.
    with path.open(encoding="utf-8", newline="\n") as file:
        return [line for line in file if line.endswith("\n")]


def _truncate(path: Path, iteration: int) -> None:
    """Keep the lines up to `iteration`."""
    if path.exists():
        replace_text(path, "".join(line for line in _lines(path) if json.loads(line)["iteration"] <= iteration))


def _line(row: dict[str, object] | dict[str, float]) -> str:
    return json.dumps(finite_or_null(row), ensure_ascii=False, allow_nan=False) + "\n"


P = ParamSpec("P")


class BackgroundWriter:
    """Single background thread that runs submitted work in order; errors surface in a later `do` or in `wait`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._begun: list[Future[object]] = []

    def do(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Submit `work`. The caller must not change `args` afterwards. Raises the error of earlier work that failed."""
        for past in [future for future in self._begun if future.done()]:
            self._begun.remove(past)
            past.result()
        self._begun.append(self._thread.submit(work, *args, **kwargs))

    def wait(self) -> None:
        """Wait until all submitted work has ended, then raise the first error if any of it failed."""
        begun, self._begun = self._begun, []
        errors = [error for future in begun if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
