"""A watch over the rules of plug-ins, which names the first that returns numbers that are not finite."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import TypeVar

from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.rule import AXES, TRY_ALONE, is_ours, rule_of, spoken_name

A = TypeVar("A", bound=PolicyGradient | ActorCritic)


@dataclass
class RuleWatch:
    """The rule that was the first to return numbers that are not finite, in words; None if none of a plug-in did."""

    first: str | None = None

    def over(self, algorithm: A) -> A:
        """The algorithm with the rules of plug-ins watched; Winnow's own are known by identity, and stay."""
        rules = {axis: rule for axis in AXES if (rule := getattr(algorithm, axis, None)) is not None and axis != "kl"}
        watched = {axis: self._watched(axis, rule) for axis, rule in rules.items() if not is_ours(rule)}
        kl = algorithm.kl
        if kl is not None and not is_ours(kl.estimator):
            watched["kl"] = replace(kl, estimator=self._watched("kl", kl.estimator))
        return algorithm if not watched else replace(algorithm, **watched)  # pyright: ignore[reportArgumentType]

    def in_words(self) -> str:
        """Why an estimate is not finite."""
        if self.first is not None:
            return f"{self.first} returned numbers that are not finite (NaN or infinity); {TRY_ALONE}"
        return (
            "objective: its gradient is not finite (NaN or infinity), though what each rule of a plug-in returns is; "
            "type smaller coefficients, or winnow check with the words of this run to try each rule alone"
        )

    def _watched(self, axis: str, rule: Callable) -> Callable:
        function = rule_of(rule)

        @wraps(function)
        def watched(*positional: object, **named: object) -> object:
            result = function(*positional, **named)
            tensors = result if isinstance(result, tuple | list) else [result]
            if self.first is None and not all(_is_finite(each) for each in tensors):
                self.first = f"algo.{axis}: {spoken_name(rule)}"
            return result

        return partial(watched, *rule.args, **rule.keywords) if isinstance(rule, partial) else watched


def _is_finite(result: object) -> bool:
    return not isinstance(result, Tensor) or bool(result.isfinite().all())
