"""Rules of an algorithm's axes: functions that are called with the quantities that their signatures name.

Each axis passes a few quantities by position and offers more by name. A rule that needs no more does not see them:
`def ppo(ratio, advantage, low, high)` and `def dppo(ratio, advantage, logprobs, sampled, low)` are both rules
of clipping.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from traceback import extract_tb
from typing import TypeVar

import torch
from torch import Tensor

from winnow import signals
from winnow.errors import ConfigError

T = TypeVar("T")
RAISED_BY_RULES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SystemExit,
    TypeError,
    ValueError,
)
"""Errors of a rule that are its own; others may be of a device, of memory or of a disk."""
OF_THE_MACHINE = ("cuda", "nccl", "memory")
"""Words in a RuntimeError of torch that is not the rule's; one on shapes that do not fit is."""
TRY_ALONE = "type winnow check with the words of this run to try the rule alone"
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Axis:
    """The quantities that the rules of an axis are called with: by position, and by name where they name them."""

    by_position: tuple[str, ...]
    by_name: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = f", by name {', '.join(self.by_name)}" if self.by_name else ""
        return f"by position {', '.join(self.by_position)}{names}"


FACTS = ("lengths", "truncated", "parts", "weights")
AXES = {
    "select": Axis(("rewards", "correct"), FACTS),
    "advantage": Axis(("rewards",), ("correct", *FACTS, "penalty", "usable")),
    "ratio": Axis(("logprobs", "old", "response"), ("advantage",)),
    "clip": Axis(("ratio", "advantage"), ("logprobs", "old", "response", "sampled")),
    "aggregate": Axis(("lengths",), ("prompts",)),
    "kl": Axis(("delta",)),
    "correction": Axis(("ratio",), ("response", "advantage")),
    "tokens": Axis(("entropies", "response"), ("logprobs", "advantage")),
    "preference": Axis(("chosen", "rejected", "beta"), ("smoothing", "chosen_lengths", "rejected_lengths")),
    "divergence": Axis(("log_ratio",)),
}
"""The quantities of each axis, as the table "Rules that read more" of docs/algorithms.md has it."""
SHARED_MODULES = {"correction": "ratio", "divergence": "preference"}
"""Axes whose rules are in the module of another axis; those of all others are in `winnow.ops.AXIS`."""
SYNONYMS = {("kl", "log_ratio"), ("divergence", "delta")}
"""Names that another axis gives and that a rule of one's own may have for the same thing on this axis."""


def rule_of(rule: Callable) -> Callable:
    """The function of `ops` behind a rule. Hydra instantiates a rule with settings as a partial of that function."""
    return rule.func if isinstance(rule, partial) else rule


def reads(rule: Callable, quantity: str) -> bool:
    """Whether the signature of a rule names a quantity, and its settings do not bind it."""
    bound = rule.keywords if isinstance(rule, partial) else {}
    parameter = signature(rule_of(rule)).parameters.get(quantity)
    return parameter is not None and parameter.kind in NAMED and quantity not in bound


def given(rule: Callable, **offered: T | None) -> dict[str, T]:
    """The quantities among those `offered` that the rule names. None stands for one that there is not."""
    return {name: value for name, value in offered.items() if value is not None and reads(rule, name)}


def require_callable(axis: str, rule: object, absent: Collection[str] = ()) -> None:
    """Check that a rule can be called with what its axis offers, but for the quantities that are `absent` in this run.

    Raises:
        ConfigError: it is no function, is a rule of another axis, or has an argument that nothing gives.
    """
    if not callable(rule):
        raise ConfigError(
            f"algo.{axis}: a {type(rule).__name__} and no function; add `_partial_: true` beside its `_target_`"
        )
    of = AXES[axis]
    if (why := _of_another_axis(axis, rule)) is not None:
        raise ConfigError(f"algo.{axis}: {spoken_name(rule)} {why}; algo/{axis} gives {of}")
    names = given(rule, **{name: True for name in of.by_name if name not in absent})
    try:
        signature(rule).bind(*of.by_position, **names)
    except TypeError as error:
        lacking = _lacking(axis, rule, names)
        why = f"cannot be called: {error}" if lacking is None else lacking
        if isinstance(rule_of(rule), type):
            why = "is a class, of which an object is called; leave out `_partial_: true` beside its `_target_`"
        raise ConfigError(f"algo.{axis}: {spoken_name(rule)} {why}; algo/{axis} gives {of}") from error


def _of_another_axis(axis: str, rule: Callable) -> str | None:
    """Why a rule is not one of this axis, in words: by its module if it is ours, else by the names of its arguments."""
    taken = [p.name for p in signature(rule_of(rule)).parameters.values() if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    module = str(getattr(rule_of(rule), "__module__", ""))
    if not module.startswith("winnow.ops."):
        return _misplaced(axis, taken)
    homes = [each for each in AXES if f"winnow.ops.{SHARED_MODULES.get(each, each)}" == module]
    home = next((each for each in homes if tuple(taken[: len(AXES[each].by_position)]) == AXES[each].by_position), None)
    if home == axis:
        return None
    return (
        f"is in {module} and no rule of an axis" if home is None else f"is a rule of algo/{home}, and of no other axis"
    )


def _misplaced(axis: str, taken: Sequence[str]) -> str | None:
    """The first argument that has the name of one quantity and is given another, in words."""
    known = {name for of in AXES.values() for name in (*of.by_position, *of.by_name)}
    for name, quantity in zip(taken, AXES[axis].by_position, strict=False):
        if name != quantity and name in known and (axis, name) not in SYNONYMS:
            return f"takes `{name}` where algo/{axis} gives `{quantity}`"
    return None


def _lacking(axis: str, rule: Callable, names: Collection[str]) -> str | None:
    """The first argument that nothing gives, in words; None if that is not what is wrong."""
    rest = [p for p in signature(rule).parameters.values() if p.kind in NAMED]
    taken = sum(p.kind is Parameter.POSITIONAL_OR_KEYWORD for p in rest)
    if taken < len(AXES[axis].by_position):
        return None
    for parameter in rest[len(AXES[axis].by_position) :]:
        name = parameter.name
        if parameter.default is not Parameter.empty or name in names:
            continue
        if name in AXES[axis].by_name:
            return f"needs `{name}`, which this run does not have; give it a default value"
        others = [f"algo/{other}" for other, of in AXES.items() if name in (*of.by_position, *of.by_name)]
        if others:
            return f"needs `{name}`, which {', '.join(others)} gives, and algo/{axis} does not"
        return f"needs `{name}`, which nothing gives; type +algo.{axis}.{name}=VALUE, or add it to the YAML file"
    return None


def spoken_name(rule: Callable) -> str:
    """The name of the function behind a rule."""
    return getattr(rule_of(rule), "__name__", type(rule).__name__)


def is_ours(rule: Callable) -> bool:
    """Whether the function behind a rule is part of Winnow."""
    return str(getattr(rule_of(rule), "__module__", "")).split(".")[0] == "winnow"


def called(axis: str, rule: Callable, *positional: object, **named: object) -> object:
    """The result of a rule.

    Raises:
        ConfigError: the rule has changed one of its inputs, which others read as well, or one of a plug-in has raised.
    """
    tensors = [each for each in (*positional, *named.values()) if isinstance(each, Tensor) and not each.is_inference()]
    before = [each._version for each in tensors]
    try:
        result = rule(*positional, **named)
    except (Exception, SystemExit) as error:  # a rule that ends the program would end it in silence
        if is_ours(rule) or signals.is_behind(error) or not _is_its_own(error):
            raise
        raise ConfigError(
            f"algo.{axis}: {spoken_name(rule)} raised {type(error).__name__}: {error}{_place_of(error)}; {TRY_ALONE}"
        ) from error
    if [each._version for each in tensors] != before:
        raise ConfigError(
            f"algo.{axis}: {spoken_name(rule)} changes one of its inputs in place, which others read as well; return a "
            "new tensor (winnow check says which)"
        )
    return result


def applied(axis: str, rule: Callable, *positional: object, like: Tensor, **offered: object) -> Tensor:
    """The result of a rule, of the shape of `like`, from what it has by position and what it names of the `offered`."""
    return returned(axis, rule, called(axis, rule, *positional, **given(rule, **offered)), like)


def _is_its_own(error: BaseException) -> bool:
    if type(error) is RuntimeError:
        return not any(word in str(error).lower() for word in OF_THE_MACHINE)
    return isinstance(error, RAISED_BY_RULES)


def _place_of(error: BaseException) -> str:
    frames = extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def returned(axis: str, rule: Callable, result: object, like: Tensor) -> Tensor:
    """The result of a rule, once it is known to have the shape of `like`: others would be broadcast in silence.

    Raises:
        ConfigError: it is of another shape, or no tensor.
    """
    if isinstance(result, Tensor) and result.shape == like.shape:
        return result
    found = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
    shape = tuple(like.shape)
    raise ConfigError(f"algo.{axis}: {spoken_name(rule)} returned {found}; it has to return a tensor of shape {shape}")


def mask_returned(axis: str, rule: Callable, result: object, like: Tensor) -> Tensor:
    """The result of a rule that says of each place of `like` yes or no.

    Raises:
        ConfigError: it is something else, such as rewards, of which -1 would count as yes.
    """
    found = returned(axis, rule, result, like)
    if found.dtype is torch.bool:
        return found
    kind = str(found.dtype).removeprefix("torch.")
    raise ConfigError(
        f"algo.{axis}: {spoken_name(rule)} returned numbers of type {kind}; it has to return True or False for each "
        "place, as `rewards > 0` does"
    )


def both_returned(axis: str, rule: Callable, result: object, like: Tensor) -> tuple[Tensor, Tensor]:
    """The two tensors of a rule that returns a pair.

    Raises:
        ConfigError: it returns something else, such as one tensor.
    """
    if not isinstance(result, tuple | list) or len(result) != 2:
        found = f"{len(result)} things" if isinstance(result, tuple | list) else f"a {type(result).__name__}"
        raise ConfigError(f"algo.{axis}: {spoken_name(rule)} returned {found}; it has to return two tensors")
    return returned(axis, rule, result[0], like), returned(axis, rule, result[1], like)
