"""Checks of the whole objective of preference pairs: its loss over an optimiser batch, and its gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from winnow.conformance.example import Tokens, far_tokens, tokens
from winnow.conformance.finding import Check, Result, fails, passes, same
from winnow.conformance.gradient import autograd
from winnow.conformance.policy_objective import add_up, aligned, row_of
from winnow.conformance.token_rules import FAR, gradient_is_that_of
from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.objectives import PreferenceObjective
from winnow.ops.aggregate import sequence_mean
from winnow.packed import pack
from winnow.types import Batch, Pair, PairBatch

PAIRS = ((0, 1), (2, 4), (3, 5))
"""Rows of the example; which prompts they have does not matter here."""
Places = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """An objective of pairs, on pairs of the example's rows as one optimiser batch."""

    objective: PreferenceObjective

    def loss(self, at: Tokens, places: Places = PAIRS) -> Tensor:
        """The loss of some pairs, with the denominator of all of them."""
        sides = [at.rows(torch.tensor(rows)) for rows in zip(*places, strict=True)]
        rows = pack([row_of(at, i) for pair in places for i in pair])
        batch = PairBatch(rows, _terms(sides[0]), _terms(sides[1]))
        return self.objective(sides[0].logprobs, sides[1].logprobs, batch).value

    def loss_of_plan(self, at: Tokens, budget: TokenBudget) -> Tensor:
        """The sum of the losses of the micro-batches that the framework makes of the pairs."""
        pairs = [Pair(row_of(at, chosen), row_of(at, rejected)) for chosen, rejected in PAIRS]
        plan = Plan(1, 1, budget, sequence_mean, 0)
        found = Experience(items=pairs, zero_gradient=[False] * len(pairs))
        total = at.logprobs.new_zeros(())
        for batch in plan.micro_batches(found, plan.optimiser_batches(found, 0)):
            assert isinstance(batch, PairBatch)
            places = [PAIRS[next(i for i, pair in enumerate(pairs) if pair is item)] for item in batch.items]
            width = batch.chosen.response.shape[1]
            chosen, rejected = (
                torch.stack([aligned(at.logprobs, at, i, width) for i in rows]) for rows in zip(*places, strict=True)
            )
            total = total + self.objective(chosen, rejected, batch).value
        return total

    def both(self, loss: Callable[[Tokens], Tensor], at: Tokens) -> Tensor:
        """The loss and its derivative by each log-probability, as one vector."""
        slope = autograd(lambda logprobs: loss(replace(at, logprobs=logprobs)), at.logprobs)
        return torch.cat([loss(at).detach().reshape(1), slope[at.response]])


def _terms(of: Tokens) -> Batch:
    return Batch(
        response=of.response,
        row_weight=torch.ones(len(of.response), dtype=torch.float64),
        denominator=float(len(PAIRS)),
        num_micro_batches=1,
        ref_logprobs=of.reference.clone(),
    )


def _micro_batches(tested: Pairs) -> Result:
    at = tokens()
    whole = tested.both(tested.loss, at)
    return add_up(whole, lambda cut: tested.both(lambda a: tested.loss_of_plan(a, cut), at), (1, 20, 1000))


def _ranks(tested: Pairs) -> Result:
    at = tokens()

    def apart(a: Tokens) -> Tensor:
        return torch.stack([tested.loss(a, [pair]) for pair in PAIRS]).sum()

    return same(
        [(tested.both(apart, at), tested.both(tested.loss, at))],
        "pairs split over 3 ranks give the same, with a denominator over all",
        "splitting the pairs over ranks changes the loss",
    )


def _order(tested: Pairs) -> Result:
    at = tokens()
    return same(
        [(tested.both(lambda a: tested.loss(a, PAIRS[::-1]), at), tested.both(tested.loss, at))],
        "the order of the pairs has no effect",
        "the order of the pairs changes the loss or its gradient",
    )


def _padding(tested: Pairs) -> Result:
    at = tokens()
    return same(
        [(tested.both(tested.loss, other), tested.both(tested.loss, at)) for other in (*at.wider(), at.with_junk())],
        "neither padding nor what stands in it has an effect",
        "padding, or what stands in it, changes the loss",
    )


def _gradient(tested: Pairs) -> Result:
    at = tokens()
    return gradient_is_that_of(lambda logprobs: tested.loss(replace(at, logprobs=logprobs)), at, frozenset())


def _finite(tested: Pairs) -> Result:
    for dtype in (torch.float64, torch.float32):
        for size in (FAR, -FAR):
            at = far_tokens(size).to(dtype)
            if not tested.both(tested.loss, at).isfinite().all():
                return fails(f"log-ratios of ±{FAR:g} a token in {dtype}: the loss or its gradient is not finite")
    return passes(f"loss and gradient are finite at log-ratios of ±{FAR:g} a token, in float64 and float32")


PAIR_OBJECTIVE = (
    Check("micro-batches", _micro_batches),
    Check("ranks", _ranks),
    Check("order of pairs", _order),
    Check("padding", _padding),
    Check("gradient", _gradient),
    Check("extreme log-ratios", _finite),
)
