"""Rules of an algorithm's axes: functions that are called with the quantities that their signatures name.

Each axis passes a few quantities by position and offers more by name. A rule that needs no more does not see them:
`def ppo(ratio, advantage, low, high)` and `def dppo(ratio, advantage, logprobs, old, delta)` are both rules
of clipping.
"""

from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import TypeVar

from torch import Tensor

from winnow.errors import ConfigError

T = TypeVar("T")
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


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


def returned(axis: str, rule: Callable, result: object, like: Tensor) -> Tensor:
    """The result of a rule, once it is known to have the shape of `like`: others would be broadcast in silence.

    Raises:
        ConfigError: it is of another shape, or no tensor.
    """
    if isinstance(result, Tensor) and result.shape == like.shape:
        return result
    found = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
    name = getattr(rule_of(rule), "__name__", type(rule).__name__)
    raise ConfigError(f"algo.{axis}: {name} returned {found}; it has to return a tensor of shape {tuple(like.shape)}")
