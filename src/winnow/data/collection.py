"""Rows of a JSONL file, or of a hub dataset's files, each with the place it stands at."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from winnow.data.problems import BadGolds, Overlap, Problem, ProblemSet
from winnow.errors import ConfigError
from winnow.models.hub import require_reachable
from winnow.rewards.answer_text import last_boxed
from winnow.rewards.verifier import Verifier
from winnow.rng import permutation, seed_of


class SourceRow(NamedTuple):
    """`place` names the row within its file: `line 17`."""

    place: str
    fields: dict[str, object]


def rows_of_file(path: Path, setting: str) -> Iterator[SourceRow]:
    """The rows of a JSONL file, blank lines skipped; `setting` is the key that named the file.

    Raises:
        ConfigError: no such file, no text, a line that is no JSON object (with its number), or no row at all.
    """
    if not path.is_file():
        raise ConfigError(f"{setting}={path}: no such file; type {setting}=FILE.jsonl")
    empty = True
    try:
        # Not splitlines(): it would also break at U+2028 and friends, which JSON allows inside a string.
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    empty = False
                    yield SourceRow(f"line {number}", _object(line, f"{path}:{number}"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{setting}={path}: not UTF-8 text ({error.reason}); expected one JSON object a line"
        ) from error
    if empty:
        raise ConfigError(
            f"{setting}={path}: the file has no rows; type {setting}=FILE.jsonl with a JSON object a line"
        )


def _object(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not a JSON object ({error.msg}); mend or remove that line") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a {type(row).__name__}, not a JSON object; mend or remove that line")
    return row


def rows_of_hub(repository: str, files: str, instead: str) -> Iterator[SourceRow]:
    """The rows of the Parquet and JSONL files of a hub dataset whose paths match the pattern `files`, in order of path.

    Raises:
        ConfigError: the dataset cannot be had, or has no such file; ends with `instead`.
    """
    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=files, local_files_only=True)
    except LocalEntryNotFoundError:
        require_reachable(repository, "dataset", instead)
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=files)
    found = sorted(path for path in Path(folder).glob(files) if path.suffix in (".parquet", ".jsonl"))
    if not found:
        raise ConfigError(f"dataset {repository}: no Parquet or JSONL file matches {files!r} in {folder}; {instead}")
    for path in found:
        yield from _parquet(path) if path.suffix == ".parquet" else rows_of_file(path, repository)


def _parquet(path: Path) -> Iterator[SourceRow]:
    from pyarrow import parquet

    number = 0
    for batch in parquet.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield SourceRow(f"{path.stem} row {number}", row)


_CALCULATOR = re.compile(r"<<[^<>]*>>")


def verbatim(text: str) -> str:
    """The field as it stands."""
    return text.strip()


def after_hashes(text: str) -> str:
    """What follows the last `####`, as GSM8K writes it: `…so 9*2=18\\n#### 1,018` gives `1018`."""
    _, hashes, answer = text.rpartition("####")
    return answer.strip().replace(",", "") if hashes else text.strip()


def last_box(text: str) -> str:
    r"""The content of the last `\boxed{…}`, as MATH's solutions have it."""
    return last_boxed(text) or text.strip()


def boxed_demonstration(solution: str) -> str:
    r"""A solution of GSM8K as a model should write it: without the calculator's `<<48/2=24>>`, and with its answer in a box.

    `…is <<1+1=2>>2.\n#### 2` gives `…is 2.\nThe answer is \boxed{2}.`
    """
    working, hashes, answer = _CALCULATOR.sub("", solution).rpartition("####")
    if not hashes:
        return answer.strip()
    return f"{working.strip()}\nThe answer is \\boxed{{{answer.strip().replace(',', '')}}}."


BadRows = Literal["error", "drop", "keep"]
"""What becomes of a gold that the verifier cannot read. A benchmark keeps it, as text, lest its size and meaning change."""
Field = str | list[str]
"""A field's name, or several, of which the first that a row has counts: hubs and local copies rarely agree."""

NAMED = 5
"""Rows named in a message; the others are counted."""


@dataclass(frozen=True)
class Collection:
    """One JSON object or Parquet row a problem, from the files of `repository` or, where it is set, from `path`.

    `gold` and `demonstration` turn the answer's and the solution's field into what is compared and what is learnt from.
    A row's `id` or `unique_id` is its key where the file has them, else its place.
    """

    repository: str | None
    files: str | None
    path: str | None
    problem_field: Field
    answer_field: Field
    solution_field: Field
    gold: Callable[[str], str]
    demonstration: Callable[[str], str]
    bad_rows: BadRows
    instead: ClassVar[str] = ""
    """What else may be typed where no hub gives it."""

    def problems(self, key: str, bad_golds: BadGolds, path: str | None = None) -> list[Problem]:
        """Every row whose answer the verifier can read; `key` is the node's own, for messages (`dataset`).

        Raises:
            ConfigError: no such file or dataset, a broken row, a missing field, or answers that nothing can be compared with.
        """
        return self.readable(self.every(key, path), key, bad_golds, path)

    def every(self, key: str, path: str | None = None) -> list[Problem]:
        """Every row, whatever its answer."""
        where = path or self.path or str(self.repository)
        setting = f"{key}.path" if path is None or path == self.path else f"{key}.heldout_path"
        return _keyed([self._problem(row, key, where) for row in self._rows(key, path or self.path, setting)])

    def readable(
        self, problems: list[Problem], key: str, bad_golds: BadGolds, path: str | None = None
    ) -> list[Problem]:
        return _readable(problems, path or self.path or str(self.repository), key, bad_golds, self.bad_rows)

    def _rows(self, key: str, path: str | None, setting: str) -> Sequence[SourceRow]:
        if path is not None:
            return list(rows_of_file(Path(path), setting))
        if self.repository is None:
            raise ConfigError(f"{key}.path is not set; type {key}.path=FILE.jsonl")
        assert self.files is not None
        return list(rows_of_hub(self.repository, self.files, f"connect, or type {key}.path=FILE.jsonl{self.instead}"))

    def _problem(self, row: SourceRow, key: str, where: str) -> tuple[str | None, Problem]:
        problem, answer = (
            _required(row, name, f"{key}.{setting}", where)
            for name, setting in ((self.problem_field, "problem_field"), (self.answer_field, "answer_field"))
        )
        if not _text(problem).strip():
            raise ConfigError(f"{where}, {row.place}: the problem is blank; mend or remove that row")
        solution = _first(row, self.solution_field)
        named = _first(row, ["id", "unique_id"])
        demonstration = None if solution is None else self.demonstration(_text(solution))
        return (
            None if named is None else _text(named),
            Problem(row.place, _text(problem), self.gold(_text(answer)), demonstration),
        )


@dataclass(frozen=True)
class TrainingCollection(Collection):
    """`heldout_size` rows are held out, or those of `heldout_path`, where no benchmark is evaluated on."""

    heldout_path: str | None
    heldout_size: int
    overlap: Overlap

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """Held out are the same rows under every seed and verifier."""
        name = Path(self.path).stem if self.path is not None else str(self.repository).split("/")[-1]
        every, theirs = self.every("dataset"), self.heldout_path
        if not hold_out:
            return ProblemSet(name, self.readable(every, "dataset", bad_golds), [], self.overlap)
        if theirs is not None:
            train, heldout = every, self.problems("dataset", bad_golds, theirs)
            return ProblemSet(name, self.readable(train, "dataset", bad_golds), heldout, self.overlap)
        usable = self.readable(every, "dataset", bad_golds)
        held = _held(name, every, self.heldout_size)
        train, heldout = ([p for p in usable if (p.key in held) is wanted] for wanted in (False, True))
        if not train or not heldout:
            raise ConfigError(
                f"{name}: {len(train)} rows to train on and {len(heldout)} held out have an answer that can be read; "
                "type another dataset.heldout_size"
            )
        return ProblemSet(name, train, heldout, self.overlap)


def _first(row: SourceRow, names: Field) -> object | None:
    names = [names] if isinstance(names, str) else names
    return next((row.fields[name] for name in names if row.fields.get(name) is not None), None)


def _required(row: SourceRow, names: Field, setting: str, where: str) -> object:
    names = [names] if isinstance(names, str) else names
    if not any(name in row.fields for name in names):
        raise ConfigError(
            f"{where}, {row.place}: no field {' or '.join(map(repr, names))} (found: {', '.join(row.fields)}); "
            f"type {setting}=NAME"
        )
    found = _first(row, names)
    return "" if found is None else found


def _text(value: object) -> str:
    """Lists are answers that all count; 27.0 is how a table of numbers writes 27."""
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _keyed(found: Sequence[tuple[str | None, Problem]]) -> list[Problem]:
    """Keyed by the file's own ids if every row has one of its own."""
    names = [name for name, _ in found]
    own = None not in names and len(set(names)) == len(names)
    return [Problem(name if own and name else p.key, p.text, p.answer, p.solution) for name, p in found]


def _readable(problems: list[Problem], where: str, key: str, bad_golds: BadGolds, bad_rows: BadRows) -> list[Problem]:
    """The problems whose answer the verifier can read; the others are an error, or dropped or kept and listed."""
    blank = [i for i, problem in enumerate(problems) if not problem.answer]
    if len(blank) == len(problems):
        raise ConfigError(
            f"{where}: no row has an answer to compare with; type {key}.answer_field=NAME or another file"
        )
    bad = sorted({*blank, *bad_golds([problem.answer for problem in problems])})
    if not bad:
        return problems
    named = ", ".join(f"{problems[i].key} ({problems[i].answer!r})" for i in bad[:NAMED])
    named += f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if bad_rows == "error" or (bad_rows == "keep" and blank):
        raise ConfigError(
            f"{where}: {len(bad)} of {len(problems)} answers cannot be read: {named}; mend them or type {key}.bad_rows=drop"
        )
    if bad_rows == "keep":
        print(f"{where}: {len(bad)} of {len(problems)} answers cannot be read, and are compared as text: {named}")
        return problems
    print(f"{where}: dropped {len(bad)} of {len(problems)} rows whose answer cannot be read: {named}")
    dropped = set(bad)
    return [problem for i, problem in enumerate(problems) if i not in dropped]


def _held(name: str, problems: Sequence[Problem], size: int) -> set[str]:
    """The keys of the rows to hold out."""
    if not 0 < size < len(problems):
        raise ConfigError(
            f"dataset.heldout_size={size}: {name} has {len(problems)} rows; leave some on both sides, "
            f"for example dataset.heldout_size={max(1, len(problems) // 5)}"
        )
    return {problems[i].key for i in permutation(seed_of("heldout", name), len(problems))[:size]}


@dataclass(frozen=True)
class Benchmark(Collection):
    """A collection that is read from `path`, else from `folder`/NAME.jsonl (or NAME_test.jsonl), else from the hub."""

    name: str
    folder: str | None
    verifier: Verifier
    instead: ClassVar[str] = ", eval.folder=DIR, or eval.sets=[] for the dataset's own held-out rows"

    def load(self) -> list[Problem]:
        """
        Raises:
            ConfigError: as for any collection; or the folder has no file of this name.
        """
        return self.problems(f"benchmarks.{self.name}", self.verifier.check_golds, self._local())

    def _local(self) -> str | None:
        if self.path is not None or self.folder is None:
            return self.path
        candidates = [Path(self.folder) / f"{self.name}{suffix}.jsonl" for suffix in ("", "_test")]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            there = ", ".join(sorted(path.name for path in Path(self.folder).glob("*.jsonl"))) or "no JSONL file"
            raise ConfigError(
                f"eval.folder={self.folder}: no {candidates[0].name} there ({there}); "
                f"type benchmarks.{self.name}.path=FILE.jsonl, or another folder"
            )
        return str(found)
