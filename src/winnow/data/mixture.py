"""Mixture of several datasets, each with a share of the prompts: `dataset=mix`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from winnow.data.collection import BadRows, TrainingCollection
from winnow.data.fields import Field
from winnow.data.problems import BadGolds, Overlap, Problem, ProblemSet, ProblemSource
from winnow.errors import ConfigError

PART_SETTINGS = tuple(field.name for field in fields(TrainingCollection))


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The datasets of `mix` by name, in the shares of `weights`, 1 where none is given.

    A part is the settings of a `TrainingCollection`, those of the mixture standing in for what it leaves out, or a
    dataset of another kind. Keys of problems begin with the name of their part.
    """

    mix: Mapping[str, Mapping[str, Any] | ProblemSource] | None
    weights: Mapping[str, float] | None
    heldout_size: int
    filter: str | None
    problem_field: Field
    answer_field: Field | None
    solution_field: Field
    gold: Callable[[str], str]
    demonstration: Callable[[str], str]
    bad_rows: BadRows
    overlap: Overlap

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """The problems of all parts, and of each its own held-out problems.

        Raises:
            ConfigError: there is no part, a weight without one, or a part that cannot be loaded.
        """
        train: list[Problem] = []
        heldout: list[Problem] = []
        revisions: dict[str, str] = {}
        for name, source in self._sources().items():
            if isinstance(source, TrainingCollection):
                part = source.load(bad_golds, hold_out, f"dataset.mix.{name}")
            else:
                part = source.load(bad_golds, hold_out)
            train += _named(name, part.train)
            heldout += _named(name, part.heldout)
            if part.revisions:  # of which a single dataset has one
                revisions[name] = next(iter(part.revisions.values()))
        return ProblemSet("mix", train, heldout, self.overlap, self.shares, revisions)

    @property
    def shares(self) -> dict[str, float]:
        """The weight of every part."""
        weights = self.weights or {}
        return {name: weights.get(name, 1.0) for name in self.mix or {}}

    def require_files(self, key: str, hold_out: bool, bad_golds: BadGolds) -> None:
        """Check the files of all parts, as `Collection.require_files`."""
        for name, source in self._sources().items():
            if isinstance(source, TrainingCollection):
                source.require_files(f"{key}.mix.{name}", hold_out, bad_golds)

    def _sources(self) -> dict[str, ProblemSource]:
        if not self.mix:
            raise ConfigError(
                "dataset.mix is empty; type e.g. 'dataset.mix={sums:{path:a.jsonl},words:{repository:OWNER/NAME}}'"
            )
        for name in self.weights or {}:
            if name not in self.mix:
                raise ConfigError(f"dataset.weights.{name}: no part of dataset.mix; there are {', '.join(self.mix)}")
        return {name: self._source(name, part) for name, part in self.mix.items()}

    def _source(self, name: str, part: Mapping[str, Any] | ProblemSource) -> ProblemSource:
        if not isinstance(part, Mapping):
            return part
        for key in part:
            if key not in PART_SETTINGS:
                near = "".join(f"did you mean {found}? " for found in get_close_matches(key, PART_SETTINGS, n=1))
                raise ConfigError(
                    f"dataset.mix.{name}.{key}: no such setting; {near}there are {', '.join(PART_SETTINGS)}"
                )
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name in PART_SETTINGS}
        return TrainingCollection(**(shared | dict(part)))


def first_problems(problems: Sequence[Problem], count: int, shares: Mapping[str, float]) -> Sequence[Problem]:
    """The first `count` problems; of a mixture the first of each part, as many as its share, and at least one.

    A part that has fewer than its share gives all it has, and the others the rest.
    """
    if not shares:
        return problems[:count]
    parts = {name: [problem for problem in problems if problem.source == name] for name in shares}
    taken = {name: min(1, len(part)) for name, part in parts.items()}
    while sum(taken.values()) < count and (left := [name for name in shares if taken[name] < len(parts[name])]):
        taken[min(left, key=lambda name: (taken[name] + 1) / shares[name])] += 1
    return [problem for name, part in parts.items() for problem in part[: taken[name]]]


def _named(part: str, problems: Sequence[Problem]) -> list[Problem]:
    return [replace(problem, key=f"{part}/{problem.key}", source=part) for problem in problems]
