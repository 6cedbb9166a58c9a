"""Formulas of rules: one builder for each rule of `winnow.ops`, and `formula`, by which a rule of yours brings its own.

A builder has the name of no rule in it: it takes what the rule takes, quantities as symbols and settings as numbers,
and returns the formula. `winnow.explain.proof` compares both on random numbers.
"""

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from winnow.explain.expression import Expression
from winnow.explain.symbols import OFFERED
from winnow.rule import rule_of

Builder = Callable[..., "Expression | Formula"]
Made = TypeVar("Made", bound=Builder)
Rule = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Formula:
    """The formula of a rule. `slope` is a simpler one with the same gradient, where the value is another.

    The formula of an aggregation is the weight of a row's tokens, and `count` the row's part of the denominator.
    `notes` say what the formula leaves out.
    """

    value: Expression
    slope: Expression | None = None
    count: Expression | None = None
    notes: tuple[str, ...] = ()


BUILDERS: dict[Rule, Builder] = {}


def formula(rule: Rule) -> Callable[[Made], Made]:
    """Make the decorated builder the formula of `rule`, a function that `conf/algo` or a YAML of yours names."""

    def of(builder: Made) -> Made:
        BUILDERS[rule] = builder
        return builder

    return of


def settings_of(rule: Rule) -> dict[str, object]:
    """The settings that a rule is bound to, by name, with the defaults of those that are not given."""
    bound = dict(rule.keywords) if isinstance(rule, partial) else {}
    offered = {name for names in OFFERED.values() for name in names}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(rule_of(rule)).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in offered
    }
    return defaults | bound


def built(axis: str, rule: Rule, quantities: Mapping[str, Expression] | None = None) -> Formula | None:
    """The formula of a rule on an axis of the algorithm, with its settings filled in; None if it has no builder.

    `quantities` stand in place of the axis's own symbols.
    """
    function = rule_of(rule)
    builder = BUILDERS.get(function) if isinstance(function, Hashable) else None
    if builder is None:
        return None
    offered: Mapping[str, object] = {**OFFERED[axis], **(quantities or {}), **settings_of(rule)}
    names = inspect.signature(builder).parameters
    found = builder(**{name: offered[name] for name in names if name in offered})
    return found if isinstance(found, Formula) else Formula(found)


def with_settings(rule: Rule, **settings: object) -> Rule:
    """The rule with further settings bound. Hydra's own class of partial functions would hide the function in two."""
    return partial(rule_of(rule), **(dict(rule.keywords) if isinstance(rule, partial) else {}), **settings)


def name_of(rule: Rule) -> str:
    """The name of the function behind a rule, or of the class of an object that is called like one."""
    function = rule_of(rule)
    return getattr(function, "__qualname__", type(function).__qualname__)
