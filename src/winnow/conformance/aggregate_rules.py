"""Checks of aggregate rules: the weight of each row's tokens, and its contribution to the denominator."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from winnow.conformance.calling import call, leaves_its_inputs
from winnow.conformance.claims import claims_of
from winnow.conformance.example import many_tokens, orders
from winnow.conformance.finding import Check, Result, fails, not_applicable, passes, same
from winnow.rule import both_returned, reads

LENGTHS = (3, 1, 5, 4, 2, 1, 7)
PROMPTS = (0, 0, 0, 1, 1, 2, 2)


@dataclass(frozen=True, slots=True)
class AggregateRule:
    """An aggregate rule, called with the lengths of rows and the numbers of their prompts."""

    rule: Callable

    def __call__(self, lengths: Int[Tensor, " n"], prompts: Int[Tensor, " n"]) -> Tensor:
        """(2, N): weights and contributions."""
        found = both_returned("aggregate", self.rule, call(self.rule, lengths, prompts=prompts), lengths)
        return torch.stack([each.double() for each in found])

    @property
    def reads_prompts(self) -> bool:
        return reads(self.rule, "prompts")


def _many_rows() -> tuple[Tensor, Tensor]:
    """Forty rows of eight prompts."""
    at = many_tokens()
    return at.lengths, at.prompts


def _rows() -> tuple[Tensor, Tensor]:
    return torch.tensor(LENGTHS), torch.tensor(PROMPTS)


def _right_shape(tested: AggregateRule) -> Result:
    lengths, prompts = _rows()
    tested(lengths, prompts)
    tested(lengths[:1], prompts[:1])
    return passes("two numbers for each row, also for a single one")


def _deterministic(tested: AggregateRule) -> Result:
    return same([(tested(*_rows()), tested(*_rows()))], "two calls give the same", "two calls differ", 0.0)


def _inputs_unchanged(tested: AggregateRule) -> Result:
    lengths, prompts = _rows()
    return leaves_its_inputs(tested.rule, lengths, prompts=prompts)


def _permuted(tested: AggregateRule) -> Result:
    return same(
        [
            (tested(lengths[order], prompts[order]), tested(lengths, prompts)[:, order])
            for lengths, prompts in (_rows(), _many_rows())
            for order in orders(len(lengths), "aggregate")
        ],
        "a row's place has no effect",
        "the order of the rows changes their weights",
    )


def _parts(tested: AggregateRule) -> Result:
    results = [(_apart(tested, *rows), tested(*rows)) for rows in (_rows(), _many_rows())]
    if "batch" in claims_of(tested.rule):
        return not_applicable("a row's weight depends on the other rows, by its claim")
    return same(
        results,
        "a row has the same weight in any company",
        "the weight of a row depends on the rows beside it: one that is left out of an update, because a number of it "
        "is not finite, would weigh on the others",
    )


def _apart(tested: AggregateRule, lengths: Tensor, prompts: Tensor) -> Tensor:
    """The numbers of rows that are each alone, or with those of their prompt where the rule reads prompts."""
    size = prompts.unique_consecutive(return_counts=True)[1] if tested.reads_prompts else torch.ones_like(lengths)
    parts = zip(lengths.split(size.tolist()), prompts.split(size.tolist()), strict=True)
    return torch.cat([tested(*part) for part in parts], 1)


def _finite(tested: AggregateRule) -> Result:
    for lengths in ([1], [1, 1], [100_000, 1]):
        weights, parts = tested(torch.tensor(lengths), torch.arange(len(lengths)))
        if not (weights.isfinite().all() and parts.isfinite().all()):
            return fails(f"responses of {lengths} tokens: a number is not finite")
        if (weights < 0).any() or parts.sum() <= 0:
            return fails(f"responses of {lengths} tokens: weights {weights.tolist()}, denominator {float(parts.sum())}")
    return passes("weights are not negative and the denominator is above 0, for one token as for 100,000")


AGGREGATE = (
    Check("shape", _right_shape),
    Check("determinism", _deterministic),
    Check("inputs unchanged", _inputs_unchanged),
    Check("order of rows", _permuted),
    Check("rows alone", _parts),
    Check("extreme lengths", _finite),
)
