"""Problems of a file or of a hub dataset: what most of `conf/dataset` and all of `conf/benchmark` build."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from winnow.data import rows
from winnow.data.problems import BadGolds, Problem, ProblemSet
from winnow.data.rows import Row
from winnow.data.screen import Overlap
from winnow.errors import ConfigError
from winnow.rng import permutation, seed_of

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

    def _rows(self, key: str, path: str | None, setting: str) -> Sequence[Row]:
        if path is not None:
            return list(rows.of_file(Path(path), setting))
        if self.repository is None:
            raise ConfigError(f"{key}.path is not set; type {key}.path=FILE.jsonl")
        assert self.files is not None
        return list(rows.of_hub(self.repository, self.files, f"connect, or type {key}.path=FILE.jsonl{self.instead}"))

    def _problem(self, row: Row, key: str, where: str) -> tuple[str | None, Problem]:
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


def _first(row: Row, names: Field) -> object | None:
    names = [names] if isinstance(names, str) else names
    return next((row.fields[name] for name in names if row.fields.get(name) is not None), None)


def _required(row: Row, names: Field, setting: str, where: str) -> object:
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
