"""Checks of a composed policy-gradient objective: the loss of a whole optimiser batch, and its gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from winnow.conformance.calling import call
from winnow.conformance.claims import claims_of
from winnow.conformance.example import Tokens, both_tokens, far_tokens, orders, tokens
from winnow.conformance.finding import TOLERANCE, Check, Result, difference, fails, not_applicable, passes, same
from winnow.conformance.gradient import autograd
from winnow.conformance.token_rules import FAR, gradient_is_that_of
from winnow.experience.batching import Experience, Plan, TokenBudget
from winnow.objectives import Aggregate, PolicyObjective
from winnow.types import Batch, Row


@dataclass(frozen=True, slots=True)
class Composed:
    """An objective with its aggregation, on the rows of an example as one optimiser batch."""

    objective: PolicyObjective
    aggregate: Aggregate

    @property
    def policy_alone(self) -> "Composed":
        """The same without KL term and entropy bonus, which have a gradient without an advantage."""
        return replace(self, objective=replace(self.objective, kl=None, entropy=0.0))

    @property
    def claims(self) -> frozenset[str]:
        rules = [self.objective.ratio, self.objective.clip, self.aggregate]
        kl = self.objective.kl_in_loss
        return frozenset().union(*map(claims_of, rules if kl is None else [*rules, kl.estimator]))

    def weights(self, at: Tokens) -> tuple[Tensor, Tensor]:
        """The weight of each row's tokens, and its contribution to the denominator."""
        weights, parts = call(self.aggregate, at.lengths, prompts=at.prompts)
        return weights, parts

    def terms(self, at: Tokens, weights: Tensor, denominator: float) -> Batch:
        return Batch(
            response=at.response,
            row_weight=weights,
            denominator=denominator,
            num_micro_batches=1,
            advantages=at.advantage.clone(),
            old_logprobs=at.old.clone() if self.objective.uses_old else None,
            sampler_logprobs=at.sampled.clone() if self.objective.uses_sampled else None,
            ref_logprobs=at.reference.clone() if self.objective.kl_in_loss is not None else None,
        )

    def loss(self, at: Tokens) -> Tensor:
        """The loss of all rows as one batch, as a function of their log-probabilities."""
        weights, parts = self.weights(at)
        return self._loss(at, self.terms(at, weights, float(parts.sum())))

    def _loss(self, at: Tokens, terms: Batch) -> Tensor:
        return self.objective(at.logprobs, _entropies(at), terms).value

    def loss_of_shares(self, at: Tokens, shares: Sequence[Sequence[int]]) -> Tensor:
        """The sum of the losses of shares of the rows, each with its weight and the denominator of the whole."""
        weights, parts = self.weights(at)
        chosen = [torch.tensor(share) for share in shares]
        losses = [self._loss(at.rows(c), self.terms(at.rows(c), weights[c], float(parts.sum()))) for c in chosen]
        return torch.stack(losses).sum()

    def loss_of_plan(self, at: Tokens, budget: TokenBudget) -> Tensor:
        """The sum of the losses of the micro-batches that the framework makes of the rows."""
        rows = [row_of(at, i) for i in range(len(at.response))]
        plan = Plan(minibatches=1, epochs=1, budget=budget, aggregate=self.aggregate, seed=0)
        experience = Experience(items=rows, zero_gradient=[False] * len(rows))
        total = at.logprobs.new_zeros(())
        for batch in plan.micro_batches(experience, plan.optimiser_batches(experience, 0)):
            chosen = [next(i for i, row in enumerate(rows) if row is item) for item in batch.items]
            width = batch.terms.response.shape[1]
            logprobs = torch.stack([aligned(at.logprobs, at, i, width) for i in chosen])
            entropies = torch.stack([aligned(_entropies(at), at, i, width) for i in chosen])
            assert isinstance(batch.terms, Batch)
            total = total + self.objective(logprobs, entropies, batch.terms).value
        return total

    def both(self, loss: Callable[[Tokens], Tensor], at: Tokens) -> Tensor:
        """The loss and its derivative by each log-probability, as one vector."""
        value = loss(at).detach().reshape(1)
        slope = autograd(lambda logprobs: loss(replace(at, logprobs=logprobs)), at.logprobs)
        return torch.cat([value, slope[at.response]])


def _entropies(at: Tokens) -> Tensor:
    """A stand-in for the entropy of each token's distribution, which moves with its log-probability."""
    return at.logprobs.square()


def _first(at: Tokens, row: int) -> int:
    return int(at.response[row].nonzero()[0])


def aligned(matrix: Tensor, at: Tokens, row: int, width: int) -> Tensor:
    """A row's numbers as a packed row has them: the response after its prompt, then padding."""
    end = int(at.response[row].nonzero()[-1]) + 1
    return torch.nn.functional.pad(matrix[row, :end], (0, width - end))


def row_of(at: Tokens, row: int) -> Row:
    """A row of the example as the framework has it, after a prompt of as many tokens as stand before it."""
    start, end = _first(at, row), int(at.response[row].nonzero()[-1]) + 1
    prompt = tuple(100 + int(at.prompts[row]) for _ in range(start))
    return Row(
        (*prompt, *range(end - start)),
        start,
        advantage=at.advantage[row, :end].clone(),
        old_logprobs=at.old[row, :end],
        sampler_logprobs=at.sampled[row, :end],
        ref_logprobs=at.reference[row, :end],
    )


def add_up(whole: Tensor, of_cut: Callable[[TokenBudget], Tensor], sizes: Sequence[int]) -> Result:
    """Whether a loss and its gradient are the same in micro-batches of each size, packed and padded."""
    return same(
        [(of_cut(TokenBudget(size, packed)), whole) for size in sizes for packed in (True, False)],
        "the sum over micro-batches is the whole, packed and padded",
        "the sum over micro-batches is not the loss of the whole batch",
    )


def _micro_batches(tested: Composed) -> Result:
    at = tokens()
    whole = tested.both(tested.loss, at)
    return add_up(whole, lambda cut: tested.both(lambda a: tested.loss_of_plan(a, cut), at), (1, 12, 1000))


def _ranks(tested: Composed) -> Result:
    return same(
        [_split(tested, at, ranks) for at, ranks in product(both_tokens(), (2, 3, 6))],
        "rows split over 2, 3 and 6 ranks give the same, with a denominator over all",
        "splitting the rows over ranks changes the loss",
    )


def _split(tested: Composed, at: Tokens, ranks: int) -> tuple[Tensor, Tensor]:
    """The loss and its gradient of rows split over ranks, and of all together."""
    shares = [range(rank, len(at.response), ranks) for rank in range(ranks)]
    return tested.both(lambda a: tested.loss_of_shares(a, shares), at), tested.both(tested.loss, at)


def _rows_permuted(tested: Composed) -> Result:
    def slope(rows: Tokens) -> Tensor:
        return autograd(lambda x: tested.loss(replace(rows, logprobs=x)), rows.logprobs)

    moved = [(at, order) for at in both_tokens() for order in orders(len(at.response), "objective")]
    values = [(tested.loss(at.rows(order)), tested.loss(at)) for at, order in moved]
    return same(
        values + [(slope(at.rows(order)), slope(at)[order]) for at, order in moved],
        "the order of the rows has no effect",
        "the order of the rows changes the loss or its gradient",
    )


def _padding(tested: Composed) -> Result:
    at = tokens()
    whole = tested.both(tested.loss, at)
    return same(
        [(tested.both(tested.loss, other), whole) for other in (*at.wider(), at.with_junk())],
        "neither padding nor what stands in it has an effect",
        "padding, or what stands in it, changes the loss",
    )


def _zero_advantage(tested: Composed) -> Result:
    at = replace(tokens(), advantage=torch.zeros_like(tokens().advantage))
    found = tested.policy_alone.both(tested.policy_alone.loss, at)
    without = " (KL term and entropy bonus left out)" if tested.objective.has_gradient_without_advantage else ""
    return same(
        [(found, torch.zeros_like(found))],
        f"no advantage, no gradient{without}",
        f"rows without an advantage have a gradient{without}",
    )


def _on_policy(tested: Composed) -> Result:
    at = tokens().on_policy()
    weights, parts = tested.weights(at)
    alone = tested.policy_alone
    slope = autograd(lambda logprobs: alone.loss(replace(at, logprobs=logprobs)), at.logprobs)
    plain = -weights[:, None] * at.advantage * at.response / parts.sum()
    if "by_length" in tested.claims and difference(slope, plain * at.lengths[:, None]) <= TOLERANCE:
        return passes("at a ratio of 1 the gradient is the plain policy gradient · |a|, by its claim")
    return same(
        [(slope, plain)],
        "at a ratio of 1 the gradient is the plain policy gradient",
        "at a ratio of 1 the gradient is not −weight · advantage · ∂ log π",
    )


def _single_step(tested: Composed) -> Result:
    if not tested.objective.uses_old:
        return not_applicable("no old log-probabilities are read")
    at = tokens().on_policy()
    weights, parts = tested.weights(at)
    terms = replace(tested.terms(at, weights, float(parts.sum())), old_logprobs=None)
    slopes = [
        autograd(lambda x, t=t: tested._loss(replace(at, logprobs=x), t), at.logprobs)
        for t in (terms, replace(terms, old_logprobs=at.old))
    ]
    return same(
        [(slopes[0], slopes[1])],
        "without old log-probabilities the gradient is that at a ratio of 1",
        "a single step, which has no old log-probabilities, has another gradient",
    )


def _gradient(tested: Composed) -> Result:
    at = tokens()
    return gradient_is_that_of(lambda logprobs: tested.loss(replace(at, logprobs=logprobs)), at, tested.claims)


def _finite(tested: Composed) -> Result:
    for dtype in (torch.float64, torch.float32):
        for size in (FAR, -FAR):
            at = far_tokens(size).to(dtype)
            found = tested.both(tested.loss, at)
            if not found.isfinite().all():
                return fails(
                    f"log-ratios of ±{FAR:g} in {dtype}: {int((~found.isfinite()).sum())} numbers of the loss and its "
                    "gradient are not finite"
                )
    return passes(f"loss and gradient are finite at log-ratios of ±{FAR:g}, in float64 and float32")


def _deterministic(tested: Composed) -> Result:
    at = tokens()
    calls = [tested.both(tested.loss, at) for _ in range(2)]
    return same([(calls[0], calls[1])], "two calls give the same", "two calls differ", 0.0)


OBJECTIVE = (
    Check("determinism", _deterministic),
    Check("micro-batches", _micro_batches),
    Check("ranks", _ranks),
    Check("order of rows", _rows_permuted),
    Check("padding", _padding),
    Check("zero advantage", _zero_advantage),
    Check("on policy", _on_policy),
    Check("single step", _single_step),
    Check("gradient", _gradient),
    Check("extreme log-ratios", _finite),
)
