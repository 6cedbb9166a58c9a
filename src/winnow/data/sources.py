"""Where problems come from: what `conf/dataset` builds."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

from winnow.data import arithmetic as chains
from winnow.data.hub import require_reachable
from winnow.data.problems import Problem, ProblemSet
from winnow.errors import ConfigError
from winnow.rng import permutation, seed_of

BadRows = Literal["error", "drop"]
BadGolds = Callable[[Sequence[str]], Sequence[int]]
"""Indices of the answers that the verifier cannot read."""


class ArithmeticSplit(Sequence[Problem]):
    """`size` problems of one split, each made when it is asked for."""

    def __init__(
        self, seed: int, split: str, levels: Sequence[int], size: int, flawless: int, direct: float, slip: float
    ) -> None:
        self.seed, self.split, self.levels, self.size = seed, split, tuple(levels), size
        self.flawless, self.direct, self.slip = flawless, direct, slip

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        chain = chains.problem(self.seed, index, self.split, self.levels)
        direct, slip = (0.0, 0.0) if index < self.flawless else (self.direct, self.slip)
        solution = chains.demonstration(chain, self.seed, index, direct, slip)
        return Problem(f"{self.split}:{index}", chain.text, str(chain.answer), solution)


def arithmetic(
    seed: int,
    levels: Sequence[int],
    train_size: int,
    heldout_size: int,
    flawless: int,
    direct: float,
    slip: float,
    bad_golds: BadGolds,
) -> ProblemSet:
    """Chains of sums and differences, whose golds are integers: `bad_golds` has nothing to find.

    The demonstrations of the first `flawless` problems are worked without a slip; of the others a share `direct`
    guesses, and each step that carries or borrows forgets to with probability `slip`.
    """
    train, heldout = (
        ArithmeticSplit(seed, split, levels, size, flawless, direct, slip)
        for split, size in (("train", train_size), ("heldout", heldout_size))
    )
    return ProblemSet("arithmetic", train, heldout)


def jsonl(
    path: str | None,
    heldout_path: str | None,
    heldout_size: int,
    problem_field: str,
    answer_field: str,
    solution_field: str,
    bad_golds: BadGolds,
    bad_rows: BadRows,
) -> ProblemSet:
    """Problems from a file with one JSON object a line; without `heldout_path`, `heldout_size` rows are held out."""
    if path is None:
        raise ConfigError("dataset.path is not set; type dataset.path=FILE.jsonl")
    names = (problem_field, answer_field, solution_field)
    train = _readable(_read_jsonl(Path(path), *names), path, bad_golds, bad_rows)
    if heldout_path is not None:
        heldout = _readable(_read_jsonl(Path(heldout_path), *names), heldout_path, bad_golds, bad_rows)
        return ProblemSet(Path(path).stem, train, heldout)
    return _split(Path(path).stem, train, heldout_size)


def hub(
    repository: str,
    path: str | None,
    problem_field: str,
    answer_field: str,
    heldout_size: int,
    bad_golds: BadGolds,
    bad_rows: BadRows,
) -> ProblemSet:
    """Problems from the Parquet files of a hub dataset, or from a local JSONL file by `path`."""
    if path is not None:
        return jsonl(path, None, heldout_size, "problem", answer_field, "solution", bad_golds, bad_rows)
    rows = list(_read_hub(repository, problem_field, answer_field))
    return _split(repository.split("/")[-1], _readable(rows, repository, bad_golds, bad_rows), heldout_size)


def _split(name: str, problems: Sequence[Problem], heldout_size: int) -> ProblemSet:
    """Hold out the same rows under every run seed."""
    if not 0 < heldout_size < len(problems):
        raise ConfigError(
            f"dataset.heldout_size={heldout_size}: {name} has {len(problems)} usable rows; leave some on both sides"
        )
    order = permutation(seed_of("heldout", name), len(problems))
    heldout = sorted(order[:heldout_size])
    held = set(heldout)
    train = [problem for i, problem in enumerate(problems) if i not in held]
    return ProblemSet(name, train, [problems[i] for i in heldout])


def _readable(problems: list[Problem], where: str, bad_golds: BadGolds, bad_rows: BadRows) -> list[Problem]:
    """The problems whose answer the verifier can read; the others are an error, or dropped and listed."""
    bad = set(bad_golds([problem.answer for problem in problems]))
    if not bad:
        return problems
    named = ", ".join(f"{problems[i].key} ({problems[i].answer!r})" for i in sorted(bad))
    if bad_rows == "error":
        raise ConfigError(
            f"{where}: {len(bad)} of {len(problems)} answers cannot be read: {named}; "
            "mend them or type dataset.bad_rows=drop"
        )
    print(f"{where}: dropped {len(bad)} of {len(problems)} rows whose answer cannot be read: {named}")
    return [problem for i, problem in enumerate(problems) if i not in bad]


def _read_jsonl(path: Path, problem_field: str, answer_field: str, solution_field: str) -> list[Problem]:
    if not path.is_file():
        raise ConfigError(f"dataset.path={path}: no such file; type dataset.path=FILE.jsonl")
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}:{number}: not a JSON object ({error.msg})") from error
        if not isinstance(row, dict) or not {problem_field, answer_field} <= row.keys():
            found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise ConfigError(
                f"{path}:{number}: no field {problem_field!r} and {answer_field!r} (found: {found}); "
                "type dataset.problem_field=… dataset.answer_field=…"
            )
        solution = row.get(solution_field)
        problems.append(
            Problem(f"line {number}", str(row[problem_field]), str(row[answer_field]), solution and str(solution))
        )
    if not problems:
        raise ConfigError(f"dataset.path={path}: the file has no rows")
    return problems


def _read_hub(repository: str, problem_field: str, answer_field: str) -> Iterator[Problem]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from pyarrow import parquet

    patterns = ["*.parquet", "**/*.parquet"]
    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=patterns, local_files_only=True)
    except LocalEntryNotFoundError:
        require_reachable(repository, "dataset", "connect, or type dataset.path=FILE.jsonl")
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=patterns)
    for file in sorted(Path(folder).rglob("*train*.parquet")):
        table = parquet.read_table(file, columns=[problem_field, answer_field])
        for number, row in enumerate(table.to_pylist()):
            yield Problem(f"{file.stem} row {number}", row[problem_field], row[answer_field])
