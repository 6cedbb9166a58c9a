"""Checks of the rule that makes an advantage for each token, from a critic's values."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.conformance.calling import call, leaves_its_inputs
from winnow.conformance.example import Tokens, both_tokens, orders, tokens
from winnow.conformance.finding import Check, Result, fails, passes, same
from winnow.rule import returned


@dataclass(frozen=True, slots=True)
class GaeRule:
    """A rule of (N, S) rewards and values, whose advantages and returns are one (2, N, S) tensor here.

    The rewards are the example's advantages, and the values its log-probabilities.
    """

    rule: Callable

    def __call__(self, at: Tokens) -> Tensor:
        advantages, returns = call(self.rule, at.advantage, at.logprobs, at.response)
        return torch.stack([returned("advantage", self.rule, each, at.logprobs) for each in (advantages, returns)])


def _right_shape(tested: GaeRule) -> Result:
    tested(tokens())
    tested(tokens().rows(slice(1, 2)))
    return passes("advantages and returns, two (N, S) matrices, also of one row")


def _deterministic(tested: GaeRule) -> Result:
    return same([(tested(tokens()), tested(tokens()))], "two calls give the same", "two calls differ", 0.0)


def _inputs_unchanged(tested: GaeRule) -> Result:
    at = tokens()
    return leaves_its_inputs(tested.rule, at.advantage, at.logprobs, at.response)


def _rows_permuted(tested: GaeRule) -> Result:
    pairs = [
        (tested(at.rows(order)), tested(at)[:, order])
        for at in both_tokens()
        for order in orders(len(at.response), "gae")
    ]
    return same(pairs, "a row's place has no effect", "a row's place matters")


def _rows_alone(tested: GaeRule) -> Result:
    pairs = [
        (torch.cat([tested(at.rows(slice(row, row + 1))) for row in range(len(at.response))], 1), tested(at))
        for at in both_tokens()
    ]
    return same(pairs, "a row alone and among others has the same", "a row depends on other rows")


def _padding(tested: GaeRule) -> Result:
    at = tokens()
    plain = tested(at)[:, at.response]
    return same(
        [(tested(other)[:, other.response], plain) for other in (*at.wider(), at.with_junk())],
        "neither padding nor what stands in it has an effect",
        "numbers outside of the responses change the advantages",
    )


def _finite(tested: GaeRule) -> Result:
    for scale in (1e-6, 1e6):
        at = tokens()._of(lambda matrix, scale=scale: matrix * scale if matrix.is_floating_point() else matrix)
        if not tested(at).isfinite().all():
            return fails(f"rewards and values of some {scale:g}: a number is not finite")
    return passes("finite for rewards and values of some 1e-6 and 1e6")


GAE = (
    Check("shape", _right_shape),
    Check("determinism", _deterministic),
    Check("inputs unchanged", _inputs_unchanged),
    Check("order of rows", _rows_permuted),
    Check("rows alone", _rows_alone),
    Check("padding", _padding),
    Check("extreme rewards", _finite),
)
