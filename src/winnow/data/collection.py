"""Datasets of problems with verifiable answers, read from a JSONL file or from a hub dataset's files."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from winnow.columns import columns_of
from winnow.data.fields import Field, answer_text, optional, problem_text, required, row_id, solution_text
from winnow.data.problems import BadGolds, Overlap, Problem, ProblemSet
from winnow.data.rows import rows_of_hub
from winnow.errors import ConfigError
from winnow.jsonl import SourceRow, rows_of_file
from winnow.rewards.answers.text import last_boxed
from winnow.rewards.verifier import Verifier
from winnow.rng import permutation, seed_of
from winnow.visible_text import visible

BadRows = Literal["error", "drop", "keep"]
"""Treatment of rows whose gold the verifier cannot read. Benchmarks keep them and compare as text, because a
benchmark without some of its rows would have another size and meaning."""

NAMED_ROWS = 5
"""The number of rows that a message names; the others are counted."""


@dataclass(frozen=True)
class Collection:
    """Problems from the rows of a file: of `path` if that is set, else of the `files` in the hub dataset `repository`.

    `gold` turns the answer's field into what responses are compared with, and `demonstration` the solution's field into
    what supervised learning imitates. A problem's key is its row's `id` or `unique_id` if all rows have one of their
    own, else the row's place in the file.
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
    """Further alternatives to type if the hub cannot be reached."""

    @property
    def source(self) -> str:
        return self.path or str(self.repository)

    def problems(self, key: str, bad_golds: BadGolds, setting: str = "path") -> list[Problem]:
        """Every row whose answer the verifier can read.

        `key` is the collection's own key in the configuration (`dataset`), and `setting` the one below it that holds
        the path; messages name them.

        Raises:
            ConfigError: no such file or dataset, a broken row, a missing field, or golds that cannot be compared with.
        """
        return self.readable(self.every(key, setting), key, bad_golds)

    def every(self, key: str, setting: str = "path") -> list[Problem]:
        """Every row, whatever its answer."""
        found = [self._problem(row, key) for row in self._rows(key, setting)]
        ids = [row_id for row_id, _ in found]
        if None in ids or len(set(ids)) < len(ids):
            return [problem for _, problem in found]
        return [replace(problem, key=row_id or problem.key) for row_id, problem in found]

    def readable(self, problems: list[Problem], key: str, bad_golds: BadGolds) -> list[Problem]:
        """The problems whose answer the verifier can read; the others are an error, dropped or kept, by `bad_rows`."""
        blank = [i for i, problem in enumerate(problems) if not problem.answer]
        if len(blank) == len(problems):
            raise ConfigError(f"{self.source}: no row has an answer; type {key}.answer_field=NAME, or use another file")
        bad = sorted({*blank, *bad_golds([problem.answer for problem in problems])})
        if not bad:
            return problems
        named = ", ".join(f"{problems[i].key} ({problems[i].answer!r})" for i in bad[:NAMED_ROWS])
        named += f" and {len(bad) - NAMED_ROWS} more" if len(bad) > NAMED_ROWS else ""
        unreadable = f"{self.source}: {len(bad)} of {len(problems)} answers cannot be read"
        if self.bad_rows == "error" or (self.bad_rows == "keep" and blank):
            raise ConfigError(f"{unreadable}: {named}; correct them or type {key}.bad_rows=drop")
        if self.bad_rows == "keep":
            print(visible(f"{unreadable}, and are compared as text: {named}"))
            return problems
        print(visible(f"{unreadable}, and their rows are dropped: {named}"))
        dropped = set(bad)
        return [problem for i, problem in enumerate(problems) if i not in dropped]

    def _rows(self, key: str, setting: str) -> list[SourceRow]:
        if self.path is not None:
            return list(rows_of_file(Path(self.path), f"{key}.{setting}"))
        if self.repository is None:
            raise ConfigError(f"{key}.path is not set; type {key}.path=FILE.jsonl")
        assert self.files is not None
        return list(rows_of_hub(self.repository, self.files, f"type {key}.path=FILE.jsonl{self.instead}"))

    def _problem(self, row: SourceRow, key: str) -> tuple[str | None, Problem]:
        """The row's id, if it has one, and its problem."""
        where = f"{self.source}, {row.place}"
        text, turns = problem_text(required(row, self.problem_field, f"{key}.problem_field", where), where)
        answer = answer_text(required(row, self.answer_field, f"{key}.answer_field", where), where)
        solution = solution_text(optional(row, self.solution_field), where)
        demonstration = None if solution is None else self.demonstration(solution)
        problem = Problem(row.place, text, self.gold(answer), demonstration, turns, columns_of(row.fields))
        return row_id(optional(row, ["id", "unique_id"]), where), problem


@dataclass(frozen=True)
class TrainingCollection(Collection):
    """A collection to train on. Without benchmarks, `heldout_size` rows or those of `heldout_path` are held out."""

    heldout_path: str | None
    heldout_size: int
    overlap: Overlap

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """All rows as training problems or, with `hold_out`, a split.

        The held-out rows are the same for all seeds and verifiers.
        """
        name = Path(self.path).stem if self.path is not None else str(self.repository).split("/")[-1]
        every = self.every("dataset")
        train, heldout = self.readable(every, "dataset", bad_golds), []
        if hold_out and self.heldout_path is not None:
            heldout = replace(self, path=self.heldout_path).problems("dataset", bad_golds, "heldout_path")
        elif hold_out:
            # Chosen among all rows, readable or not, because what is readable depends on the verifier.
            keys = _heldout_keys(name, every, self.heldout_size)
            train, heldout = ([p for p in train if (p.key in keys) is wanted] for wanted in (False, True))
            if not train or not heldout:
                raise ConfigError(
                    f"{name}: answers can be read in {len(train)} training rows and {len(heldout)} held-out rows, "
                    "but both need some; type another dataset.heldout_size"
                )
        return ProblemSet(name, train, heldout, self.overlap)


def _heldout_keys(name: str, problems: Sequence[Problem], size: int) -> set[str]:
    if not 0 < size < len(problems):
        raise ConfigError(
            f"dataset.heldout_size={size}: {name} has {len(problems)} rows, and some must remain on both sides; "
            f"type e.g. dataset.heldout_size={max(1, len(problems) // 5)}"
        )
    return {problems[i].key for i in permutation(seed_of("heldout", name), len(problems))[:size]}


@dataclass(frozen=True)
class Benchmark(Collection):
    """A collection to evaluate on.

    It is read from `path`, else from `folder`/NAME.jsonl (or NAME_test.jsonl), else from the hub.
    """

    name: str
    folder: str | None
    verifier: Verifier
    instead: ClassVar[str] = ", eval.folder=DIR, or eval.sets=[] for the dataset's own held-out rows"

    def load(self) -> list[Problem]:
        """The problems; `bad_rows` applies to golds that the benchmark's own verifier cannot read.

        Raises:
            ConfigError: as for any collection, or the folder has no file of this name.
        """
        if self.path is None and self.folder is not None:
            return replace(self, path=self._file_in(Path(self.folder))).load()
        return self.problems(f"benchmarks.{self.name}", self.verifier.check_golds)

    def _file_in(self, folder: Path) -> str:
        candidates = [folder / f"{self.name}{suffix}.jsonl" for suffix in ("", "_test")]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            present = ", ".join(sorted(path.name for path in folder.glob("*.jsonl"))) or "no JSONL file"
            raise ConfigError(
                f"eval.folder={folder}: no {candidates[0].name} in it (found: {present}); "
                f"type benchmarks.{self.name}.path=FILE.jsonl, or another folder"
            )
        return str(found)


_CALCULATOR = re.compile(r"<<[^<>]*>>")


def verbatim(text: str) -> str:
    """The field as it is, without surrounding space."""
    return text.strip()


def after_hashes(text: str) -> str:
    """The answer after the last `####`, as GSM8K writes it: `…so 9*2=18\\n#### 1,018` gives `1018`."""
    _, hashes, answer = text.rpartition("####")
    return answer.strip().replace(",", "") if hashes else text.strip()


def last_box(text: str) -> str:
    r"""The content of the last `\boxed{…}`, as in MATH's solutions."""
    return last_boxed(text) or text.strip()


def boxed_demonstration(solution: str) -> str:
    r"""A solution of GSM8K as a model should write it: no calculator annotation (`<<48/2=24>>`), and a boxed answer.

    `…is <<1+1=2>>2.\n#### 2` gives `…is 2.\nThe answer is \boxed{2}.`
    """
    working, hashes, answer = _CALCULATOR.sub("", solution).rpartition("####")
    if not hashes:
        return answer.strip()
    return f"{working.strip()}\nThe answer is \\boxed{{{answer.strip().replace(',', '')}}}."
