"""Checks of rules that choose the tokens which keep their advantage, by a statistic of the whole iteration."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.conformance.calling import call, leaves_its_inputs
from winnow.conformance.example import Tokens, both_tokens, orders, tokens
from winnow.conformance.finding import Check, Result, fails, passes, same


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A rule of (N, S) entropies and response masks; the entropies are minus the example's log-probabilities."""

    rule: Callable

    def __call__(self, at: Tokens) -> Tensor:
        found = call(self.rule, -at.logprobs, at.response, logprobs=at.old, advantage=at.advantage)
        if not isinstance(found, Tensor) or found.shape != at.response.shape or found.dtype != torch.bool:
            raise TypeError(f"returned {found!r}; it has to return a mask of shape {tuple(at.response.shape)}")
        return found


def _right_shape(tested: TokenChoice) -> Result:
    at = tokens()
    chosen = tested(at)
    tested(at.rows(slice(1, 2)))
    outside = int((chosen & ~at.response).sum())
    if outside:
        return fails(f"chooses {outside} positions outside of the responses")
    return passes(f"a (N, S) mask, of which {int(chosen.sum())} of {int(at.response.sum())} response tokens are chosen")


def _deterministic(tested: TokenChoice) -> Result:
    return same([(tested(tokens()), tested(tokens()))], "two calls give the same", "two calls differ", 0.0)


def _inputs_unchanged(tested: TokenChoice) -> Result:
    at = tokens()
    return leaves_its_inputs(tested.rule, -at.logprobs, at.response, logprobs=at.old, advantage=at.advantage)


def _rows_permuted(tested: TokenChoice) -> Result:
    pairs = [
        (tested(at.rows(order)), tested(at)[order])
        for at in both_tokens()
        for order in orders(len(at.response), "choice")
    ]
    return same(pairs, "a row's place has no effect", "a row's place matters")


def _padding(tested: TokenChoice) -> Result:
    at = tokens()
    plain = tested(at)[at.response]
    return same(
        [(tested(other)[other.response], plain) for other in (*at.wider(), at.with_junk())],
        "neither padding nor what stands in it has an effect",
        "padding, or what stands in it, changes which tokens are chosen",
    )


TOKEN_CHOICE = (
    Check("shape", _right_shape),
    Check("determinism", _deterministic),
    Check("inputs unchanged", _inputs_unchanged),
    Check("order of rows", _rows_permuted),
    Check("padding", _padding),
)
