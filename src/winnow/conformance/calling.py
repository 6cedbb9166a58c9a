"""Calls of rules as the framework makes them: by position, and by name with what else the signature names."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from torch import Tensor

from winnow.conformance.finding import Result, fails, passes
from winnow.rule import given


def call(rule: Callable, *positional: Tensor | None, **offered: Tensor | None) -> Any:
    """The result of a rule on copies of its inputs, so that no check sees what another call has changed."""
    return rule(*map(_copied, positional), **{n: value.clone() for n, value in given(rule, **offered).items()})


def _copied(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.clone()


def leaves_its_inputs(rule: Callable, *positional: Tensor | None, **offered: Tensor | None) -> Result:
    """Whether a rule leaves what it is given as it was."""
    named = {name: value.clone() for name, value in given(rule, **offered).items()}
    first = [_copied(value) for value in positional]
    rule(*first, **named)
    before = [*zip(positional, first, strict=True), *((offered[name], value) for name, value in named.items())]
    labels = [*list(signature(rule).parameters)[: len(first)], *named]
    for label, (was, is_now) in zip(labels, before, strict=True):
        if was is not None and is_now is not None and not was.equal(is_now):
            changed = int((was != is_now).sum())
            return fails(
                f"changes its input `{label}` in place, {changed} of {was.numel()} numbers; return a new tensor"
            )
    return passes("inputs are what they were")
