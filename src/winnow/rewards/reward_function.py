"""Reward function: a plain function of prompts, completions and columns, as TRL has it, or verl's of one response.

`f(prompts, completions, **columns)` returns one number for each completion, or None where it has no opinion. It is
called by keyword with what it names, and with everything if it takes `**kwargs`.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, Literal, cast

from winnow.columns import Json
from winnow.rewards.worker import load, written

Form = Literal["trl", "verl"]
VERL_ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")
OWN_ARGUMENTS = (
    "prompts",
    "completions",
    "answer",
    "prompt_ids",
    "completion_ids",
    "finish",
    "verdict",
    "random_seed",
    "trainer_state",
    "log_extra",
    "log_metric",
)
"""Keyword arguments that come from Winnow, whatever columns the dataset has."""
MOST_BITS = 14_000
"""The longest whole number that is logged as one: Python refuses to write out more than 4,300 digits."""


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """A reward function by its name in logs, its `module:name`, and the arguments that its configuration fixes.

    A class is built with the arguments, once in each process, and its object is called.
    """

    name: str
    target: str
    arguments: Mapping[str, Json] = field(default_factory=dict)
    form: Form = "trl"

    @property
    def settings(self) -> dict[str, Json]:
        """The function as a JSON value, from which `RewardFunction(**settings)` makes it again."""
        return asdict(self)

    def load(self) -> Callable[..., object]:
        """The function itself, in TRL's form, with its fixed arguments."""
        found: Callable[..., object] = load(self.target)
        if inspect.isclass(found):
            found = cast(Callable[..., object], found(**self.arguments))
        elif self.arguments:
            found = partial(found, **self.arguments)
        return partial(_each_by_verl, found) if self.form == "verl" else found

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that a call has to fill: without those that `arguments` fix."""
        found = load(self.target)
        if inspect.isclass(found):
            parameters = list(inspect.signature(found.__call__).parameters.values())[1:]
            return {p.name: p for p in parameters}
        return {name: p for name, p in inspect.signature(found).parameters.items() if name not in self.arguments}

    def accepts(self, name: str) -> bool:
        """Whether the function is given the argument or column `name`."""
        if self.form == "verl":
            return name in ("completions", "answer", "log_extra") or name not in OWN_ARGUMENTS
        parameters = self.parameters()
        return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def required(self) -> list[str]:
        """The names without which it cannot be called."""
        if self.form == "verl":
            return []
        by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [p.name for p in self.parameters().values() if p.kind in by_keyword and p.default is p.empty]


@dataclass(frozen=True, slots=True)
class TrainerState:
    """The part of transformers' `TrainerState` that reward functions read: iterations done, and in all."""

    global_step: int
    max_steps: int


@dataclass(frozen=True, slots=True)
class Returned:
    """Values that a function returned for its rows, and what it logged: extra columns, and metrics with their values.

    A value that is neither a finite number nor None is NaN; `problems` has its row and what it was instead.
    """

    values: Sequence[float | None]
    problems: Sequence[tuple[int, str]] = ()
    extra: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)


class WrongReturn(Exception):
    """The function returned something else than one value for each completion."""


def call(
    function: Callable[..., object], arguments: Mapping[str, Any], rows: int, accepts: Callable[[str], bool]
) -> Returned:
    """Call a function on `rows` rows, and read what it returns.

    Raises:
        WrongReturn: it does not return one value for each row.
    """
    extra: dict[str, list[Json]] = {}
    metrics: dict[str, list[float]] = {}

    def log_extra(column: str, values: Sequence[Any]) -> None:
        extra[written(str(column))] = [_plain(value) for value in values]

    def log_metric(name: str, value: Any) -> None:
        metrics.setdefault(written(str(name)), []).append(float(value))

    tools = {"log_extra": log_extra, "log_metric": log_metric}
    given = {**arguments, **{name: tool for name, tool in tools.items() if accepts(name)}}
    if "trainer_state" in given:
        given["trainer_state"] = TrainerState(**given["trainer_state"])
    result = function(**given)
    if inspect.isawaitable(result):
        result = _awaited(result)
    values, problems = _values(result, rows)
    return Returned(values, problems, {k: v for k, v in extra.items() if len(v) == rows}, metrics)


def _awaited(result: Any) -> object:
    async def wait() -> object:
        return await result

    # A thread of its own: in a notebook, this one runs an event loop already.
    with ThreadPoolExecutor(1, "reward") as thread:
        return thread.submit(asyncio.run, wait()).result()


def _values(result: object, rows: int) -> tuple[list[float | None], list[tuple[int, str]]]:
    if hasattr(result, "tolist"):  # a tensor or an array
        result = result.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(result, str | bytes | Mapping) or not hasattr(result, "__len__") or not hasattr(result, "__iter__"):
        raise WrongReturn(f"returned {_shown(result)}, not a list of {rows} numbers")
    given: list[object] = list(result)  # pyright: ignore[reportArgumentType]
    if len(given) != rows:
        raise WrongReturn(f"returned {len(given)} values for {rows} completions")
    values: list[float | None] = []
    problems: list[tuple[int, str]] = []
    for row, value in enumerate(given):
        number = _number(value)
        if number is not None and number - number != 0:  # infinite or not a number
            problems.append((row, f"returned {_shown(value)}"))
            number = float("nan")
        values.append(number)
    return values, problems


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str | bytes):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _plain(value: Any) -> Json:
    """A logged value as JSON; what is none is written as text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        return written(value)
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"a whole number of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {written(str(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return written(str(value))


def _shown(value: object) -> str:
    return " ".join(repr(value)[:60].split())


def _each_by_verl(
    compute_score: Callable[..., object],
    completions: Sequence[Any],
    answer: Sequence[str],
    log_extra: Callable[[str, Sequence[Any]], None],
    **columns: Sequence[Any],
) -> list[object]:
    """The scores of verl's `compute_score(data_source, solution_str, ground_truth, extra_info)`, response by response.

    The columns `data_source`, `reward_model` (its `ground_truth`) and `extra_info` are those of verl's data files;
    where there are none, they are empty, the gold answer, and all columns of the row. A result may be an object, whose
    `score` is the reward.
    """
    scores, logged = [], []
    for row, (completion, gold) in enumerate(zip(completions, answer, strict=True)):
        fields = {name: values[row] for name, values in columns.items()}
        of_model, info = fields.get("reward_model"), fields.get("extra_info")
        truth = of_model.get("ground_truth", gold) if isinstance(of_model, Mapping) else gold
        result = compute_score(
            data_source=fields.get("data_source", ""),
            solution_str=completion if isinstance(completion, str) else completion[-1]["content"],
            ground_truth=truth,
            extra_info=info if isinstance(info, Mapping) else fields,
        )
        if inspect.isawaitable(result):
            result = _awaited(result)
        parts = dict(result) if isinstance(result, Mapping) else {"score": result}
        scores.append(parts.pop("score", "no score"))
        logged.append(parts)
    for name in dict.fromkeys(name for parts in logged for name in parts):
        log_extra(name, [parts.get(name) for parts in logged])
    return scores


class FunctionCalls:
    """Calls of reward functions, each loaded once: an item is a call, the answer its `Returned` as a JSON value."""

    def __init__(self, functions: Sequence[RewardFunction]) -> None:
        self._functions = [(function.load(), function.accepts) for function in functions]

    def __call__(self, item: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if item is None:  # asks whether the functions could be loaded
            return None
        function, accepts = self._functions[item["function"]]
        returned = call(function, item["arguments"], item["rows"], accepts)
        return {part.name: getattr(returned, part.name) for part in fields(Returned)}


def calls_of(functions: Sequence[Mapping[str, Any]]) -> FunctionCalls:
    """The calls of functions that are given by their settings, for a worker process."""
    return FunctionCalls([RewardFunction(**settings) for settings in functions])
