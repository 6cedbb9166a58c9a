"""Problems and problem sets as text, independent of any tokenizer, and the screening of training problems."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from winnow.columns import NO_COLUMNS, Columns
from winnow.errors import ConfigError
from winnow.models.conversation import Message

BadGolds = Callable[[Sequence[str]], Sequence[int]]
"""The function that returns the indices of the golds that the verifier cannot read."""
Overlap = Literal["drop", "keep"]
"""Treatment of training problems that are in an evaluation set."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with its gold answer; `solution` is a demonstration, if there is one.

    `key` is unique within the dataset and does not depend on the seed. A problem that is a chat has its messages as
    `turns`, and `text` is then what the user says in them. `columns` are all fields of the row that it was read from,
    by the names that the file has; a generated problem has none. `source` names its dataset in a mixture of several.
    """

    key: str
    text: str
    answer: str
    solution: str | None = None
    turns: tuple[Message, ...] = ()
    columns: Columns = NO_COLUMNS
    source: str = ""

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The problem as messages, the last of which is the user's."""
        return self.turns or (Message("user", self.text),)


@runtime_checkable
class MadeOnDemand(Protocol):
    """Interface of sequences whose problems are made when they are asked for, each time anew."""

    @property
    def most_bytes(self) -> int:
        """Bytes that no text of a problem exceeds."""
        ...


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Training problems, and held-out problems that training never sees.

    `overlap` is None for problems that are made on demand and are disjoint by construction. `shares` are the weights of
    the sources of a mixture, and `revisions` the commits of hub datasets that were read, as `OWNER/NAME@COMMIT`.
    """

    name: str
    train: Sequence[Problem]
    heldout: Sequence[Problem]
    overlap: Overlap | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    revisions: Mapping[str, str] = field(default_factory=dict)

    @property
    def heldout_sets(self) -> dict[str, Sequence[Problem]]:
        """The held-out problems by the name of their set: those of each source, where several are mixed."""
        if not self.shares:
            return {self.name: self.heldout}
        return {name: [problem for problem in self.heldout if problem.source == name] for name in self.shares}

    def require_solutions(self) -> None:
        """Check that every training problem has a solution, as supervised learning needs.

        Problems that are made on demand always have one.

        Raises:
            ConfigError: a training problem has none; the message names the first one.
        """
        if not isinstance(self.train, list):
            return
        for problem in self.train:
            if problem.solution is None:
                raise ConfigError(
                    f"{self.name}, {problem.key}: no solution to learn from; "
                    "type dataset.solution_field=… or choose another dataset"
                )


NO_PROBLEMS = ProblemSet("none", [], [])
"""The problems of a dataset that is not read, because benchmarks take its place."""


def problems_hash(problems: Sequence[Problem]) -> str | None:
    """SHA-256 of all problems with all they hold, in order; None where they are made on demand."""
    if isinstance(problems, MadeOnDemand):
        return None
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps(_content(problem)).encode() + b"\n")
    return digest.hexdigest()


def _content(problem: Problem) -> Mapping[str, object]:
    parts = {name: getattr(problem, name) for name in ("key", "text", "answer", "solution", "turns")}
    # Left out where there are none, so that such problems keep the hash that they had before there were columns.
    parts |= {"columns": dict(sorted(problem.columns.items()))} if problem.columns else {}
    return parts | ({"source": problem.source} if problem.source else {})


class ProblemSource(Protocol):
    """Interface of the objects that `conf/dataset` builds."""

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """The problems. Runs that evaluate on benchmarks need no `hold_out`: all rows of a file are for training."""
        ...


_TYPOGRAPHY = re.compile(r"\\left|\\right|\\displaystyle|\\[!,;: ()\[\]]|\\quad|\\qquad|[\s$~]+")


def normalized_text(problem: str) -> str:
    """The text by which two printings of one problem are equal: without case, white space and LaTeX's spacing."""
    one_fraction = problem.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    return _TYPOGRAPHY.sub("", one_fraction).casefold().strip(".?!")


@dataclass(frozen=True, slots=True)
class ScreenedProblems:
    """The problems that remain after screening, and counts for the start-up message.

    `overlaps` counts the training problems found in each evaluation set, dropped or not.
    """

    problems: list[Problem]
    total: int
    too_long: int
    repeats: int
    overlaps: dict[str, int] = field(default_factory=dict)
    overlap: Overlap = "drop"

    def line(self, max_tokens: int | None) -> str:
        """`7,473 training problems (3 dropped: longer than 512 tokens; 1 dropped: also in evaluation set math500)`."""
        verb = "dropped" if self.overlap == "drop" else "kept"
        notes = [f"{self.too_long:,} dropped: longer than {max_tokens:,} tokens"] if self.too_long else []
        notes += [f"{self.repeats:,} kept: repeated"] if self.repeats else []
        notes += [f"{n:,} {verb}: also in evaluation set {name}" for name, n in self.overlaps.items() if n]
        notes = notes or ["none too long, repeated or in an evaluation set"]
        return f"{self.total:,} training problems ({'; '.join(notes)})"


def screen_problems(
    problems: Sequence[Problem],
    evaluated: Mapping[str, Sequence[Problem]],
    overlap: Overlap,
    too_long: Callable[[Sequence[Problem]], Sequence[bool]],
) -> ScreenedProblems:
    """Drop training problems whose prompt is too long and, by `overlap`, those that are in an evaluation set.

    `evaluated` maps names of evaluation sets to their problems. Problems are compared by `normalized_text`, which finds
    copies but not paraphrases; a chat is in a set if any message of its user is.

    Raises:
        ConfigError: no training problem remains.
    """
    long = too_long(problems)
    texts = [normalized_text(problem.text) for problem in problems]
    sets = {name: {normalized_text(problem.text) for problem in theirs} for name, theirs in evaluated.items()}
    asked = [_asked(problem) for problem in problems]
    leaked = [any(not theirs.isdisjoint(mine) for theirs in sets.values()) for mine in asked]
    kept = [
        problem
        for problem, is_long, is_leaked in zip(problems, long, leaked, strict=True)
        if not is_long and not (is_leaked and overlap == "drop")
    ]
    if not kept:
        remedy = "a larger rollout.max_prompt_tokens" if sum(long) >= sum(leaked) else "dataset.overlap=keep"
        raise ConfigError(
            f"dataset: none of {len(problems)} training problems remains: {sum(long)} too long, {sum(leaked)} in an "
            f"evaluation set; type {remedy}, or another dataset"
        )
    return ScreenedProblems(
        kept,
        total=len(problems),
        too_long=sum(long),
        repeats=sum(count - 1 for count in Counter(texts).values()),
        overlaps={name: sum(not theirs.isdisjoint(mine) for mine in asked) for name, theirs in sets.items()},
        overlap=overlap,
    )


def _asked(problem: Problem) -> set[str]:
    """The normalized texts of the problem and of all messages of its user."""
    return {normalized_text(text) for text in (problem.text, *(t.content for t in problem.turns if t.role == "user"))}
