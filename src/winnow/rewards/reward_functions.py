"""Weighted reward functions: called on whole prompts in processes that can be killed, and again to find what fails.

A call has the samples of several prompts. Where it fails, by an exception, a wrong number of values, too much time or
memory, it is made again prompt by prompt, and those that fail row by row, so that only the rows at fault are lost.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import isfinite, isnan, nan
from typing import Any, Protocol

from winnow import signals
from winnow.columns import Json
from winnow.errors import ConfigError
from winnow.rewards.reward import JudgedGroup, Rewards, Settings
from winnow.rewards.reward_function import FunctionCalls, Returned, RewardFunction
from winnow.rewards.worker import last_line
from winnow.rewards.worker_pool import Failure, Reply, StartError, WorkerPool
from winnow.types import Prompt, Rewarded
from winnow.verdict import Judgement, Verdict

MOST_TIMEOUTS = 8
"""Calls of one function that may run out of time before it is not called again for the rows at hand."""


class Calls(Protocol):
    """Makes calls of reward functions, and returns one reply for each."""

    def ask(self, items: Sequence[Mapping[str, Any] | None]) -> list[Reply]: ...


class InThisProcess:
    """Calls in the trainer's own process, without limits: for functions that need its GPU or its state."""

    def __init__(self, functions: Sequence[RewardFunction]) -> None:
        self._calls = FunctionCalls(functions)

    def ask(self, items: Sequence[Mapping[str, Any] | None]) -> list[Reply]:
        return [self._reply(item) for item in items]

    def _reply(self, item: Mapping[str, Any] | None) -> Reply:
        signals.check()
        try:
            # A copy, as a process of its own would get: what a function changes there reaches no other, nor the data.
            value = self._calls(pickle.loads(pickle.dumps(item)))
            json.dumps(value)  # fails here, and not when the rows are written
            return Reply(value, 0.0)
        except BaseException as error:  # whatever a user's function raises, its rows alone are lost
            if signals.is_behind(error):
                raise
            return Reply(None, 0.0, Failure.RAISED, last_line(error))


@dataclass(frozen=True, slots=True)
class Success:
    """A threshold on one reward, which takes the place of the verifier's verdict."""

    name: str
    at_least: float

    def judgement(self, value: float | None, before: Judgement) -> Judgement:
        """The judgement of a response whose named reward is `value`: NaN where it is lost. None is not a success."""
        reached = value is not None and value >= self.at_least
        verdict = Verdict.correct if reached else Verdict.wrong
        return replace(before, verdict=Verdict.crash if value is not None and isnan(value) else verdict)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of isolated calls: worker processes, seconds of one call, megabytes beyond what a worker starts with."""

    workers: int
    timeout: float
    memory_mb: int


@dataclass(eq=False)
class RewardFunctions:
    """The weighted sum of what functions return; see `Rewarded` for rows that are lost.

    `rule` replaces the verifier's verdict. Without `limits` the functions run in this process. `prompts_per_call` is
    the most prompts that one call has, None for all that are at hand. `iterations` is the length of the run, for
    functions that ask.
    """

    functions: Sequence[RewardFunction]
    weights: Sequence[float]
    rule: Success | None
    limits: Limits | None
    prompts_per_call: int | None = None
    iterations: int = 0
    _calls: Calls | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        return [function.name for function in self.functions]

    @property
    def success(self) -> Settings | None:
        if (rule := self.rule) is None:
            return None
        function = next(function for function in self.functions if function.name == rule.name)
        arguments = {"arguments": json.dumps(dict(function.arguments))} if function.arguments else {}
        called = {"reward": rule.name, "function": function.target, **arguments}
        return {"name": "reward", **called, "at_least": rule.at_least}

    def only(self, name: str) -> "RewardFunctions":
        """The one function `name`, with the same rule and limits."""
        chosen = [function for function in self.functions if function.name == name]
        return RewardFunctions(chosen, [1.0], self.rule, self.limits, self.prompts_per_call, self.iterations)

    def start(self) -> None:
        """Load the functions, which `rewards_of` would do otherwise.

        Raises:
            ConfigError: one of them cannot be loaded.
        """
        try:
            self._caller().ask([None])
        except StartError as error:
            raise ConfigError(f"reward.functions: cannot be loaded in a process of its own ({error.reason})") from error

    def close(self) -> None:
        """End the worker processes. The next call starts new ones."""
        if isinstance(self._calls, WorkerPool):
            self._calls.close()

    def rewards_of(self, prompts: Sequence[Prompt], groups: Sequence[JudgedGroup], iteration: int) -> Rewards:
        table = table_of(prompts, groups, iteration, self.iterations)
        found = [Search(number, function, table) for number, function in enumerate(self.functions)]
        size = self.prompts_per_call or len(prompts)
        for stage in (
            _parts(table.rows_by_prompt, size),
            table.rows_by_prompt,
            [[row] for row in range(table.rows)],
        ):
            self._search(found, stage)
        rewarded = [self._rewarded(table.judgements[row], row, found) for row in range(table.rows)]
        return Rewards(
            [tuple(rewarded[row] for row in rows) for rows in table.rows_by_prompt],
            {name: values for search in found for name, values in search.metrics.items()},
            tuple(self.weights),
        )

    def _search(self, searches: Sequence["Search"], stage: Sequence[Sequence[int]]) -> None:
        """Make the calls of one stage: of the rows of each part that have no value yet, all functions together."""
        calls = [(search, rows) for search in searches for rows in stage if search.is_open(rows)]
        while calls:
            # A few at a time, so that a function that always hangs is given up before its timeouts add up to hours.
            several = (
                2 * (self.limits.workers if self.limits else 1) if any(s.timeouts for s in searches) else len(calls)
            )
            now, calls = calls[:several], calls[several:]
            replies = self._caller().ask([search.item(rows) for search, rows in now])
            for (search, rows), reply in zip(now, replies, strict=True):
                search.take(rows, reply)
            calls = [(search, rows) for search, rows in calls if search.is_open(rows)]

    def _caller(self) -> Calls:
        if self._calls is None:
            limits = self.limits
            self._calls = (
                InThisProcess(self.functions)
                if limits is None
                else WorkerPool(
                    limits.workers,
                    limits.timeout,
                    limits.memory_mb,
                    "winnow.rewards.reward_function:calls_of",
                    {"functions": [function.settings for function in self.functions]},
                    quiet=False,
                    what="reward",
                )
            )
        return self._calls

    def again(self, judgement: Judgement, before: Rewarded) -> Rewarded:
        return before if before.lost else self._weighed(judgement, before.parts, before.extra, None)

    def _rewarded(self, before: Judgement, row: int, found: Sequence["Search"]) -> Rewarded:
        parts = {search.function.name: search.values[row] for search in found}
        extra = {name: values[row] for search in found for name, values in search.extra.items() if row in values}
        lost = next((f"{search.function.name}: {search.lost[row]}" for search in found if row in search.lost), None)
        return self._weighed(before, parts, extra, lost)

    def _weighed(
        self, judgement: Judgement, parts: Mapping[str, float | None], extra: Mapping[str, Json], lost: str | None
    ) -> Rewarded:
        given = [(weight, v) for weight, v in zip(self.weights, parts.values(), strict=True) if v is not None]
        total, names = sum(weight * value for weight, value in given), ", ".join(parts)
        if lost is None and not given:
            lost = f"{names}: no function returned a number"
        elif lost is None and not isfinite(total):
            lost = f"{names}: the weighted sum is {total}"
        if self.rule is not None:
            judgement = self.rule.judgement(parts[self.rule.name], judgement)
        finite = {name: value if value is None or isfinite(value) else None for name, value in parts.items()}
        return Rewarded(total if lost is None else nan, judgement, finite, extra, lost)


@dataclass(frozen=True)
class Table:
    """Responses as columns of equal length, one row a response, prompt by prompt."""

    columns: Mapping[str, Sequence[Json]]
    judgements: Sequence[Judgement]
    rows_by_prompt: Sequence[Sequence[int]]
    state: Mapping[str, int]

    @property
    def rows(self) -> int:
        return len(self.judgements)


def table_of(prompts: Sequence[Prompt], groups: Sequence[JudgedGroup], iteration: int, iterations: int) -> Table:
    """The arguments of reward functions. A dataset's column that has the name of one of Winnow's own is left out."""
    owners = [prompt for prompt, group in zip(prompts, groups, strict=True) for _ in group.texts]
    completions = [completion for group in groups for completion in group.completions]
    texts = [text for group in groups for text in group.texts]
    judgements = [judgement for group in groups for judgement in group.judgements]
    names = dict.fromkeys(name for prompt in prompts for name in prompt.columns)
    columns: dict[str, Sequence[Json]] = {name: [owner.columns.get(name) for owner in owners] for name in names}
    columns |= {
        "prompts": [_asked(owner) for owner in owners],
        "completions": [_message(text) if owner.turns else text for owner, text in zip(owners, texts, strict=True)],
        "answer": [owner.answer for owner in owners],
        "prompt_ids": [list(owner.token_ids) for owner in owners],
        "completion_ids": [list(completion.token_ids) for completion in completions],
        "finish": [str(completion.finish) for completion in completions],
        "verdict": [str(judgement.verdict) for judgement in judgements],
        "random_seed": [seed for group in groups for seed in group.seeds],
    }
    places = iter(range(len(texts)))
    by_prompt = [[next(places) for _ in group.texts] for group in groups]
    return Table(columns, judgements, by_prompt, {"global_step": iteration, "max_steps": iterations})


def _asked(prompt: Prompt) -> Json:
    if prompt.turns:
        return [{"role": role, "content": content} for role, content in prompt.turns]
    return prompt.problem


def _message(text: str) -> Json:
    return [{"role": "assistant", "content": text}]


def _parts(by_prompt: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """The rows of each `size` prompts."""
    numbered = groupby(enumerate(by_prompt), lambda pair: pair[0] // size)
    return [[row for _, rows in some for row in rows] for _, some in numbered]


class Search:
    """The values of one function by row, as far as they are known, and the reasons of the rows that are lost."""

    def __init__(self, number: int, function: RewardFunction, table: Table) -> None:
        self.number, self.function, self._table = number, function, table
        self.values: list[float | None] = [None] * table.rows
        self.lost: dict[int, str] = {}
        self.extra: dict[str, dict[int, Json]] = {}
        self.metrics: dict[str, list[float]] = {}
        self.timeouts = 0
        self._known = [False] * table.rows
        self._tried: set[tuple[int, int]] = set()
        self._columns = {name: of for name, of in table.columns.items() if function.accepts(name)}
        self._state = {"trainer_state": table.state} if function.accepts("trainer_state") else {}

    def is_open(self, rows: Sequence[int]) -> bool:
        """Whether the rows, of which either all are known or none, have no value yet, and were not tried together."""
        return not self._known[rows[0]] and (rows[0], len(rows)) not in self._tried

    def item(self, rows: Sequence[int]) -> dict[str, Any]:
        """The call of the function on these rows, as `FunctionCalls` takes it."""
        chosen = {name: [values[row] for row in rows] for name, values in self._columns.items()}
        return {"function": self.number, "arguments": {**chosen, **self._state}, "rows": len(rows)}

    def take(self, rows: Sequence[int], reply: Reply) -> None:
        """Note what came of the call on these rows."""
        self._tried.add((rows[0], len(rows)))
        if reply.failure is not None:
            self.timeouts += reply.failure is Failure.TIMEOUT
            if len(rows) == 1:
                self._lose(rows, reply.reason)
            if self.timeouts >= MOST_TIMEOUTS:
                open_rows = [row for row, known in enumerate(self._known) if not known]
                self._lose(open_rows, f"{reply.reason} in {self.timeouts} calls, and was not called again")
            return
        returned = Returned(**reply.value)
        for row, value in zip(rows, returned.values, strict=True):
            self.values[row], self._known[row] = value, True
        for place, problem in returned.problems:
            self.lost[rows[place]] = problem
        for name, values in returned.extra.items():
            self.extra.setdefault(name, {}).update(zip(rows, values, strict=True))
        for name, values in returned.metrics.items():
            self.metrics.setdefault(name, []).extend(values)

    def _lose(self, rows: Sequence[int], reason: str) -> None:
        for row in rows:
            self.values[row], self.lost[row], self._known[row] = nan, reason, True
