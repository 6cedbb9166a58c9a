"""Datasets of problems with verifiable answers, read from a data file or from a hub dataset's files."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from winnow.columns import columns_of
from winnow.data.fields import Field, answer_text, optional, problem_text, required, row_id, solution_text
from winnow.data.files import Rows, rows_of_data_file
from winnow.data.hub_splits import Choice
from winnow.data.problems import BadGolds, Overlap, Problem, ProblemSet
from winnow.data.row_filter import RowFilter
from winnow.errors import ConfigError
from winnow.jsonl import BadRow, SourceRow
from winnow.rewards.answers.text import last_boxed
from winnow.rewards.verifier import Verifier
from winnow.rng import permutation, seed_of
from winnow.source_files import FORMATS, is_data_file
from winnow.visible_text import visible

if TYPE_CHECKING:
    from winnow.data.hub import HubDataset

BadRows = Literal["refuse", "error", "drop", "keep"]
"""Treatment of rows that cannot be read as problems, and of those whose gold the verifier cannot read; `error` is the
older word for `refuse`. Benchmarks keep the latter and compare as text, because a benchmark without some of its rows
would have another size and meaning."""

READ_EARLY = 2**25
"""Bytes of the largest file that is read a first time before the run begins, 32 MiB: less than a second."""
NAMED_ROWS = 5
"""The number of rows that a message names; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Problems from the rows of a file: of `path` if that is set, else of files of the hub dataset `repository`.

    Of a hub dataset, the files of `subset` and `split` are read, or those that the pattern `files` names. Only rows of
    which `filter` is true count. `gold` turns the answer's field into what responses are compared with, and
    `demonstration` the solution's field into what supervised learning imitates. Without an `answer_field`, problems
    have no gold answer. A problem's key is its row's `id` or `unique_id` if all rows have one of their own, else the
    row's place in the file.
    """

    repository: str | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    files: str | None = None
    path: str | None = None
    filter: str | None = None
    problem_field: Field
    answer_field: Field | None
    solution_field: Field
    gold: Callable[[str], str]
    demonstration: Callable[[str], str]
    bad_rows: BadRows
    instead: ClassVar[str] = ""
    """Further alternatives to type if the hub cannot be reached."""

    @property
    def source(self) -> str:
        return self.path or str(self.repository)

    @property
    def revision_read(self) -> str | None:
        """The hub dataset's name and commit as they were read, `OWNER/NAME@COMMIT`; None for a file."""
        commit = None if self.hub is None else self.hub.commit
        return None if commit is None else f"{self.repository}@{commit}"

    @property
    def hub(self) -> "HubDataset | None":
        """The dataset on the hub; None where the rows come from a file."""
        if self.path is not None or self.repository is None:
            return None
        from winnow.data.hub import HubDataset  # imports the hub's client

        return HubDataset(self.repository, Choice(self.subset, self.split, self.files), self.revision)

    def problems(self, key: str, bad_golds: BadGolds, setting: str = "path") -> list[Problem]:
        """Every row whose answer the verifier can read.

        `key` is the collection's own key in the configuration (`dataset`), and `setting` the one below it that holds
        the path; messages name them.

        Raises:
            ConfigError: no such file or dataset, a broken row, a missing field, or golds that cannot be compared with.
        """
        return self.readable(self.every(key, setting), key, bad_golds)

    def require_files(self, key: str, hold_out: bool, bad_golds: BadGolds) -> Sequence[Problem] | None:
        """Check the file of `path`, whole if it is of a moderate size, or have the hub's files in the cache.

        The problems are returned if all of them were read, whatever their answers.

        Raises:
            ConfigError: as `problems`.
        """
        if self.filter is not None:
            RowFilter(self.filter, f"{key}.filter")
        if self.hub is None:
            return self._require_file(key, "path", bad_golds)
        self.hub.paths(f"type {key}.path=FILE.jsonl{self.instead}")
        return None

    def _require_file(self, key: str, setting: str, bad_golds: BadGolds) -> list[Problem] | None:
        """The problems of the file, whatever their answers; None if it is too large to be read early."""
        rows = self._rows(key, setting)  # says what is wrong with the name when the first row is asked for
        if next(rows, None) is None or Path(str(self.path)).stat().st_size > READ_EARLY:
            return None
        found = self.every(key, setting, quiet=True)
        self.readable(found, key, bad_golds, quiet=True)
        return found

    def every(self, key: str, setting: str = "path", quiet: bool = False) -> list[Problem]:
        """Every row that is a problem and that the filter keeps, whatever its answer.

        Dropped rows are named on standard output, unless `quiet`.

        Raises:
            ConfigError: as `problems`, but for golds.
        """
        rows = list(self._rows(key, setting))
        keeps, found, bad = self._filter(rows, key), [], []
        for row in rows:
            try:
                if isinstance(row, BadRow):
                    raise row
                if keeps is None or self._keeps(keeps, row):
                    found.append(self._problem(row, key))
            except BadRow as error:
                bad.append(error)
        self._answer_for(bad, len(rows), bool(found), key, quiet)
        if not found:
            raise ConfigError(f"{key}.filter={self.filter}: true of none of {len(rows):,} rows; type another filter")
        ids = [row_id for row_id, _ in found]
        if None in ids or len(set(ids)) < len(ids):
            return [problem for _, problem in found]
        return [replace(problem, key=row_id or problem.key) for row_id, problem in found]

    def readable(self, problems: list[Problem], key: str, bad_golds: BadGolds, quiet: bool = False) -> list[Problem]:
        """The problems whose answer the verifier can read; the others are an error, dropped or kept, by `bad_rows`.

        Those are named on standard output, unless `quiet`.
        """
        if self.answer_field is None:
            return problems
        blank = [i for i, problem in enumerate(problems) if not problem.answer]
        if len(blank) == len(problems):
            raise ConfigError(
                f"{self.source}: no row has an answer; type {key}.answer_field=NAME, use another file, or, for rewards "
                f"that read no answer, type {key}.answer_field=null"
            )
        bad = sorted({*blank, *bad_golds([problem.answer for problem in problems])})
        if not bad:
            return problems
        named = _named([f"{problems[i].key} ({problems[i].answer!r})" for i in bad])
        unreadable = f"{self.source}: {len(bad)} of {len(problems)} answers cannot be read"
        if self.bad_rows in REFUSE or (self.bad_rows == "keep" and blank):
            texts = "" if len(blank) == len(bad) else ", or, to compare answers as texts, reward/verifier=exact"
            raise ConfigError(f"{unreadable}: {named}; correct them or type {key}.bad_rows=drop{texts}")
        kept = self.bad_rows == "keep"
        if not quiet:
            print(visible(f"{unreadable}, and {'are compared as text' if kept else 'their rows are dropped'}: {named}"))
        if kept:
            return problems
        dropped = set(bad)
        return [problem for i, problem in enumerate(problems) if i not in dropped]

    def _answer_for(self, bad: Sequence[BadRow], total: int, some_are_good: bool, key: str, quiet: bool) -> None:
        """Say which rows are dropped.

        Raises:
            ConfigError: there are bad rows and they are not to be dropped, or no others.
        """
        if bad and self.bad_rows == "drop" and some_are_good:
            named = _named([error.fault for error in bad])
            if not quiet:
                print(
                    visible(f"{self.source}: {len(bad):,} of {total:,} rows cannot be read, and are dropped: {named}")
                )
        elif bad:
            more = f" (and {len(bad) - 1:,} more rows)" if len(bad) > 1 else ""
            drop = f", or type {key}.bad_rows=drop" if some_are_good and len(bad) < total else ""
            raise ConfigError(f"{bad[0].fault}{more}; {bad[0].advice}{drop}")

    def _rows(self, key: str, setting: str) -> Rows:
        if self.path is not None:
            return rows_of_data_file(Path(self.path), f"{key}.{setting}")
        if self.hub is None:
            raise ConfigError(
                f"{key}.path and {key}.repository are not set; type {key}.path=FILE.jsonl (or .json, .csv, .parquet), "
                f"or dataset=hub {key}.repository=OWNER/NAME"
            )
        return self.hub.rows(f"type {key}.path=FILE.jsonl{self.instead}")

    def _filter(self, rows: Sequence[SourceRow | BadRow], key: str) -> RowFilter | None:
        if self.filter is None:
            return None
        chosen = RowFilter(self.filter, f"{key}.filter")
        chosen.require_columns({name: None for row in rows if isinstance(row, SourceRow) for name in row.fields})
        return chosen

    def _keeps(self, chosen: RowFilter, row: SourceRow) -> bool:
        columns = columns_of(row.fields)
        try:
            return chosen.keeps(columns)
        except ConfigError:  # about the expression, whatever the row
            raise
        except Exception as error:  # of the user's own expression, on values of any kind
            values = ", ".join(f"{name} is {columns.get(name)!r}"[:60] for name in chosen.names)
            raise BadRow(
                f"{self.source}, {row.place}", f"the filter cannot be computed ({error}; {values})", "correct that row"
            ) from error

    def _problem(self, row: SourceRow, key: str) -> tuple[str | None, Problem]:
        """The row's id, if it has one, and its problem."""
        where = f"{self.source}, {row.place}"
        text, turns = problem_text(required(row, self.problem_field, f"{key}.problem_field", where), where)
        answer = ""
        if self.answer_field is not None:
            answer = answer_text(required(row, self.answer_field, f"{key}.answer_field", where), where)
        solution = solution_text(optional(row, self.solution_field), where)
        demonstration = None if solution is None else self.demonstration(solution)
        problem = Problem(row.place, text, self.gold(answer), demonstration, turns, columns_of(row.fields))
        return row_id(optional(row, ["id", "unique_id"]), where), problem


REFUSE = ("refuse", "error")


def _named(rows: Sequence[str]) -> str:
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return ", ".join(rows[:NAMED_ROWS]) + more


@dataclass(frozen=True, kw_only=True)
class TrainingCollection(Collection):
    """A collection to train on.

    Without benchmarks, the rows of `heldout_path`, those of the hub dataset's `heldout_split`, or else `heldout_size`
    rows of the training split are held out.
    """

    heldout_path: str | None = None
    heldout_split: str | None = None
    heldout_size: int
    overlap: Overlap

    def load(self, bad_golds: BadGolds, hold_out: bool, key: str = "dataset") -> ProblemSet:
        """All rows as training problems or, with `hold_out`, a split. Messages name settings below `key`.

        The held-out rows are the same for all seeds and verifiers.
        """
        name = stem_of(self.path) if self.path is not None else str(self.repository).split("/")[-1]
        every = self.every(key)
        train, heldout = self.readable(every, key, bad_golds), []
        if hold_out and self._other is not None:
            other, setting = self._other
            heldout = other.problems(key, bad_golds, setting)
        elif hold_out:
            # Chosen among all rows, readable or not, because what is readable depends on the verifier.
            keys = _heldout_keys(name, every, self.heldout_size, key)
            train, heldout = ([p for p in train if (p.key in keys) is wanted] for wanted in (False, True))
            if not train or not heldout:
                raise ConfigError(
                    f"{name}: answers can be read in {len(train)} training rows and {len(heldout)} held-out rows, "
                    f"but both need some; type another {key}.heldout_size"
                )
        revisions = {} if self.revision_read is None else {"dataset": self.revision_read}
        return ProblemSet(name, train, heldout, self.overlap, revisions=revisions)

    def require_files(self, key: str, hold_out: bool, bad_golds: BadGolds) -> Sequence[Problem] | None:
        found = super().require_files(key, hold_out, bad_golds)
        if hold_out and self.heldout_path is not None:
            replace(self, path=self.heldout_path)._require_file(key, "heldout_path", bad_golds)
        elif hold_out and self.path is not None and found is not None:
            _heldout_keys(stem_of(self.path), found, self.heldout_size, key)
        return found

    @property
    def _other(self) -> tuple[Collection, str] | None:
        """The held-out rows as a collection of their own, and the setting that names it."""
        if self.heldout_path is not None:
            return replace(self, path=self.heldout_path), "heldout_path"
        if self.heldout_split is not None:
            return replace(self, split=self.heldout_split), "heldout_split"
        return None


def stem_of(path: str) -> str:
    """The name of a data file without its folder and without the ends that tell its format: `a` for `x/a.csv.gz`."""
    name = Path(path).name
    name = name[:-3] if name.lower().endswith(".gz") else name
    return Path(name).stem


def _heldout_keys(name: str, problems: Sequence[Problem], size: int, key: str) -> set[str]:
    if not 0 < size < len(problems):
        raise ConfigError(
            f"{key}.heldout_size={size}: {name} has {len(problems)} rows, and some must remain on both sides; "
            f"type e.g. {key}.heldout_size={max(1, len(problems) // 5)}"
        )
    return {problems[i].key for i in permutation(seed_of("heldout", name), len(problems))[:size]}


@dataclass(frozen=True, kw_only=True)
class Benchmark(Collection):
    """A collection to evaluate on.

    It is read from `path`, else from `folder`/NAME.jsonl (or NAME_test.jsonl, or another format), else from the hub.
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
        return self.placed.problems(f"benchmarks.{self.name}", self.verifier.check_golds)

    def require_files(self, key: str, hold_out: bool, bad_golds: BadGolds) -> Sequence[Problem] | None:
        return super(Benchmark, self.placed).require_files(key, hold_out, bad_golds)

    @property
    def placed(self) -> "Benchmark":
        """This benchmark with the path of its file in `folder`, where that is to be read."""
        if self.path is not None or self.folder is None:
            return self
        return replace(self, path=self._file_in(Path(self.folder)))

    def _file_in(self, folder: Path) -> str:
        names = [f"{self.name}{suffix}{end}{gz}" for gz in ("", ".gz") for end in FORMATS for suffix in ("", "_test")]
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            present = ", ".join(sorted(path.name for path in folder.glob("*") if is_data_file(path))) or "no data file"
            raise ConfigError(
                f"eval.folder={folder}: no {names[0]} in it (found: {present}); "
                f"type benchmarks.{self.name}.path=FILE.jsonl, or another folder"
            )
        return str(found)


@dataclass(frozen=True, kw_only=True)
class HeldOutFile(Collection):
    """A file of problems to evaluate on, as `eval.files` names it; the verifier of the rewards judges the answers."""

    name: str

    def load(self, bad_golds: BadGolds) -> list[Problem]:
        """The problems whose answer the verifier can read.

        Raises:
            ConfigError: as for any collection.
        """
        return self.problems("dataset", bad_golds)

    def _rows(self, key: str, setting: str) -> Rows:
        return rows_of_data_file(Path(str(self.path)), f"eval.files.{self.name}")


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
