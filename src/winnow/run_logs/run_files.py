"""Files of a run directory: `metrics.jsonl`, `evaluations.jsonl`, `samples/*.jsonl` and `summary.json`.

Everything else that a run leaves behind (curves, model card, tracker entries, reports) is derived from these four.
`hashes.jsonl` binds their contents to the run.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from winnow.columns import Json
from winnow.files import (
    finite_or_null,
    flush_to_disk,
    parsed_json,
    read_regular,
    remove_temporary,
    replace_text,
    sha256_of,
)
from winnow.run_logs.disk import append, replace_or_overwrite_json
from winnow.run_logs.hashes import HASHES, IterationHashes, text_hash
from winnow.run_logs.metric_rows import metric_rows
from winnow.run_logs.token_ids import decoded, encoded
from winnow.verdict import Verdict

Status = Literal["running", "done", "failed", "diverged", "preempted", "interrupted"]


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One judged response, of a training iteration or of an evaluation.

    `sample` is the response's index among the samples of its prompt, `answer` the gold answer and `extracted` the
    answer found in the response. `length` counts tokens, the EOS included. `seconds` is the time that the check took.
    `advantage` is None for a response that was not trained on, and so in an evaluation, where `kept` is False.
    `iteration` and `reward` are not stored with an evaluation: they are None in a record read from its Parquet file.
    `prompt_ids` and `response_ids` are the tokens that the model read and drew, special ones included, which the texts
    leave out; None in a record of a version that did not keep them. With reward functions, `rewards` has the number of
    each, or None, `logged` the columns that they log, and `lost` the reason if the row has no reward; they are None and
    not stored where there is nothing to say.
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
    rewards: Mapping[str, float | None] | None = None
    logged: Mapping[str, Json] | None = None
    lost: str | None = None

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
        of_functions = {name: value for name in FUNCTION_COLUMNS if (value := getattr(self, name)) is not None}
        stored = {name: None if some is None else encoded(some) for name, some in ids.items()}
        return self.row() | of_functions | stored

    @classmethod
    def of_stored_row(cls, row: Mapping[str, Any], before: "SampleRecord | None") -> "SampleRecord":
        """The record of a line, given the one before it. Older lines have no ids."""
        prompt, response = (None if row.get(name) is None else decoded(row[name]) for name in ID_COLUMNS)
        if prompt is None and response is not None and before is not None:
            prompt = before.prompt_ids
        given: dict[str, Any] = {name: row[name] for name in SAMPLE_COLUMNS}
        given |= {name: row.get(name) for name in FUNCTION_COLUMNS}
        return cls(**given, prompt_ids=prompt, response_ids=response)


ID_COLUMNS = ("prompt_ids", "response_ids")
"""Keys of a line of `samples/*.jsonl` that hold token ids, as `token_ids.encoded` writes them."""
FUNCTION_COLUMNS = ("rewards", "logged", "lost")
"""Keys that a line has only where reward functions gave something to store."""
SAMPLE_COLUMNS = tuple(
    column.name for column in fields(SampleRecord) if column.name not in ("seconds", *ID_COLUMNS, *FUNCTION_COLUMNS)
)
"""The keys of every line, in order. `seconds` differs between identical runs, so it is left out there."""


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
    that judges each evaluation set. `run` is the run's id, and `changes` has a line for each setting that a resume has
    changed. `alarms` has a line for each alarm that was raised, and `revisions` the commits of hub datasets.
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
    run: str = ""
    changes: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    revisions: dict[str, str] = field(default_factory=dict)


class RunFiles:
    """Reader and writer of one run directory's files. Only the first rank writes.

    With the id `run`, it records the hashes of what it writes in `hashes.jsonl`.

    Rows are flushed line by line but not fsynced: an appended row survives the end of the process, and a power failure
    once `flush_to_disk` has returned.
    """

    def __init__(self, directory: Path, run: str | None = None) -> None:
        self.directory, self.run = directory, run
        self.metrics = directory / "metrics.jsonl"
        self.evaluated = directory / "evaluations.jsonl"
        self.samples = directory / "samples"
        self.summary = directory / "summary.json"
        self.hashes = directory / HASHES
        self._of_samples: dict[int, str] = {}  # hashes by iteration, until its row is appended
        self._of_evaluations: dict[int, str] = {}

    def append(self, row: Mapping[str, float | int], weights: str | None = None) -> None:
        """Append one iteration's row to `metrics.jsonl`. Floats read back bit for bit; non-finite ones become null.

        Call it after the iteration's samples and evaluations are written. `weights` is a hash of the trained weights.

        Raises:
            KeyError: the row has no "iteration".
        """
        line = _line({"iteration": row["iteration"], **row})
        append(self.metrics, line)
        if self.run is not None:
            iteration = int(row["iteration"])
            of_samples, of_evaluations = (
                self._of_samples.pop(iteration, None),
                self._of_evaluations.pop(iteration, None),
            )
            hashes = IterationHashes(self.run, iteration, text_hash(line), of_samples, of_evaluations, weights)
            append(self.hashes, _line(dict(hashes.row)))

    def rows(self) -> list[dict[str, float]]:
        """All rows of `metrics.jsonl` in order, with null read as NaN; an empty list if there is no file yet.

        A last line that a crash cut short is left out.

        Raises:
            ValueError: a line is none of a run's; the message names file and line.
        """
        return metric_rows(self.metrics, _lines(self.metrics))

    def append_evaluations(self, counts: Sequence[EvaluationCounts]) -> None:
        """Append one evaluation to `evaluations.jsonl`, a line for each set."""
        text = "".join(_line(asdict(of_set)) for of_set in counts)
        append(self.evaluated, text)
        self._of_evaluations |= {of_set.iteration: text_hash(text) for of_set in counts}

    def evaluations(self) -> list[EvaluationCounts]:
        """All evaluations in order, without a last line that a crash cut short; empty if there is no file yet."""
        read = [json.loads(line) for line in _lines(self.evaluated)]
        return [EvaluationCounts(**line | {"correct": tuple(line["correct"])}) for line in read]

    def truncate_after(self, iteration: int) -> None:
        """Delete what was recorded after `iteration`: a resume from that checkpoint records it again."""
        for path in (self.metrics, self.evaluated, self.hashes):
            _truncate(path, iteration)
        for number, path in self.sample_files().items():
            if number > iteration:
                path.unlink()

    def iterations(self) -> list[int]:
        """The iterations with a row in `metrics.jsonl`, in order. Raises ValueError if a line is not of its kind."""
        return list(_lines_by_iteration(self.metrics))

    def flush_to_disk(self) -> None:
        """Have the system write all rows, and the configuration, to the disk."""
        hydra = self.directory / ".hydra"
        flush_to_disk(self.metrics, self.evaluated, self.hashes, *hydra.glob("*.yaml"), hydra, self.directory)

    def remove_temporary(self) -> None:
        """Remove the temporary files that a process which was killed while it wrote has left. Nobody else may write."""
        for folder in (self.directory, self.samples, self.directory / ".hydra"):
            remove_temporary(folder)

    def sample_files(self) -> dict[int, Path]:
        """The files of `samples/` by iteration, without others that may lie there."""
        found = {path: SAMPLES.fullmatch(path.name) for path in sorted(self.samples.glob("*"))}
        return {int(match[1]): path for path, match in found.items() if match}

    def refuse_damaged_rows(self) -> None:
        """Check that `metrics.jsonl` and `evaluations.jsonl` can be read.

        Raises:
            ValueError: a line is none of a run's.
        """
        for path, parts in ((self.metrics, self.rows), (self.evaluated, self.evaluations)):
            _lines_by_iteration(path)
            try:
                parts()
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{path}: damaged") from error

    def recorded_hashes(self) -> dict[int, IterationHashes]:
        """The hashes by iteration; none for runs of earlier versions.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            read = [IterationHashes.of_line(line) for line in _lines(self.hashes)]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.hashes}: damaged") from error
        return {hashes.iteration: hashes for hashes in read}

    def found_hashes(self) -> dict[int, IterationHashes]:
        """The hashes of what the files hold now, by iteration, without those of weights.

        Raises:
            ValueError: a line is not of its kind.
        """
        rows, evaluated = _lines_by_iteration(self.metrics), _lines_by_iteration(self.evaluated)
        samples = self.sample_files()
        return {
            iteration: IterationHashes(
                run=self.run or "",
                iteration=iteration,
                metrics=text_hash(line),
                samples=_file_hash(samples.get(iteration)),
                evaluations=text_hash(evaluated[iteration]) if iteration in evaluated else None,
            )
            for iteration, line in rows.items()
        }

    def amend_last(self, more: Mapping[str, float | int], counts: Sequence[EvaluationCounts]) -> None:
        """Add a belated evaluation to the last row, and its counts. Repeating the call changes nothing."""
        *before, last = _lines(self.metrics)
        row = json.loads(last)
        # Where the row of a run that was not interrupted has them: before the costs.
        keys = list(row)
        costs = next((place for place, key in enumerate(keys) if key.startswith("perf/")), len(keys))
        figures = {key: row[key] for key in keys[:costs]} | dict(more)
        iteration, line = row["iteration"], _line(figures | {key: row[key] for key in keys[costs:]})
        _truncate(self.evaluated, iteration - 1)
        self.append_evaluations(counts)
        replace_text(self.metrics, "".join([*before, line]))
        *hashed, hashes = _lines(self.hashes) or [""]
        if self.run is not None and hashes:
            of_evaluations = self._of_evaluations.pop(iteration, None)
            amended = json.loads(hashes) | {"metrics": text_hash(line), "evaluations": of_evaluations}
            replace_text(self.hashes, "".join([*hashed, _line(amended)]))

    def write_samples(self, iteration: int, records: Sequence[SampleRecord]) -> None:
        """Write `samples/iteration_000010.jsonl` atomically, a line for each response."""
        self.samples.mkdir(exist_ok=True)
        path = self.samples / f"iteration_{iteration:06d}.jsonl"
        lines = [_line(record.stored_row(before)) for before, record in zip((None, *records), records, strict=False)]
        text = "".join(lines)
        replace_text(path, text)
        self._of_samples[iteration] = text_hash(text)

    def read_summary(self) -> dict[str, object]:
        """The contents of `summary.json`; empty if there is none that can be read."""
        try:
            summary = parsed_json(read_regular(self.summary))
        except (OSError, ValueError):
            return {}
        return summary if isinstance(summary, dict) else {}

    def write_summary(self, summary: Summary) -> None:
        """Write `summary.json` atomically, or in place where the disk has no room for a second file."""
        replace_or_overwrite_json(self.summary, asdict(summary))


SAMPLES = re.compile(r"iteration_([0-9]+)\.jsonl")
CHECKPOINT = re.compile(r"iteration_([0-9]+)")
"""Exact name of a checkpoint's folder; `iteration_000008.bak` is none of ours."""


def checkpoint_folders(directory: Path) -> list[Path]:
    """All entries of `directory` with the exact name of a checkpoint, by iteration, damaged ones too."""
    try:
        entries = [path for path in directory.iterdir() if CHECKPOINT.fullmatch(path.name)]
    except OSError:  # there is no such directory
        return []
    return sorted(entries, key=iteration_in)


def iteration_in(folder: Path) -> int:
    """The iteration in the name of a checkpoint's folder."""
    return int(folder.name.removeprefix("iteration_"))


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        text = read_regular(path).decode()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    # Not splitlines(), which would also break at U+2028 and the like. A last line without a line end was cut short.
    return [f"{line}\n" for line in text.split("\n")[:-1]]


def _lines_by_iteration(path: Path) -> dict[int, str]:
    """The lines of each iteration, joined."""
    found: dict[int, str] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            row = parsed_json(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: no JSON") from error
        iteration = row.get("iteration") if isinstance(row, dict) else None
        if not isinstance(iteration, int):
            raise ValueError(f"{path}, line {number}: without its iteration")
        found[iteration] = found.get(iteration, "") + line
    return found


def _file_hash(path: Path | None) -> str | None:
    return sha256_of(path) if path is not None and path.is_file() else None


def _truncate(path: Path, iteration: int) -> None:
    """Keep the lines up to `iteration`."""
    if path.exists():
        kept = [lines for number, lines in _lines_by_iteration(path).items() if number <= iteration]
        replace_text(path, "".join(kept))


def _line(row: dict[str, object] | dict[str, float]) -> str:
    return json.dumps(finite_or_null(row), ensure_ascii=False, allow_nan=False) + "\n"
