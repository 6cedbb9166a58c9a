"""Proofs of formulas: each is computed beside the function that it describes, on random numbers in float64.

Values have to agree, and where the rule has a gradient, so does that. `winnow explain` prints the largest difference.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from winnow.explain.expression import Expression, Symbol, walk
from winnow.explain.numeric import evaluate
from winnow.explain.registry import Formula, Rule, settings_of
from winnow.objectives import Aggregate, PolicyObjective
from winnow.rule import given as rule_given
from winnow.rule import rule_of
from winnow.types import Batch

PROMPTS, SAMPLES, ROWS, POSITIONS = 6, 5, 7, 6
Inputs = dict[str, Tensor]


def _draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(seed: int, size: int = SAMPLES) -> Inputs:
    """Rewards of P prompts with `size` samples: verdicts, with all right and all wrong prompts, or any numbers."""
    draw = _draw(seed)
    correct = torch.rand(PROMPTS, size, generator=draw) < torch.linspace(0, 1, PROMPTS)[:, None]
    verdicts = torch.where(correct, 1.0, -1.0 if seed % 2 else 0.0).double()
    shaped = verdicts + torch.rand(PROMPTS, size, generator=draw).double()
    return {
        "rewards": verdicts if seed % 3 else shaped,
        "correct": correct,
        "truncated": torch.rand(PROMPTS, size, generator=draw) < 0.3,
        "lengths": torch.randint(1, 20, (PROMPTS, size), generator=draw),
        "penalty": torch.randn(PROMPTS, size, generator=draw).double() / 10,
        "parts": torch.randn(PROMPTS, size, 3, generator=draw).double(),
        "weights": torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64),
        "usable": torch.ones(PROMPTS, size, dtype=torch.bool),
    }


def tokens(seed: int) -> Inputs:
    """Log-probabilities, advantages, values, … of B rows with S positions; the first positions are the prompt's."""
    draw = _draw(seed)

    def normal(scale: float = 1.0) -> Tensor:
        return scale * torch.randn(ROWS, POSITIONS, generator=draw).double()

    lengths = torch.randint(1, POSITIONS, (ROWS,), generator=draw)
    places = torch.arange(POSITIONS)
    response = (places >= 1) & (places <= lengths[:, None])
    logprobs = (-normal().abs() - 0.1).requires_grad_()
    old = logprobs.detach() + normal(0.4)
    advantage = normal(1.5).sign() * (normal().abs() + 0.1)
    return {
        "logprobs": logprobs,
        "old": old,
        "response": response,
        "advantage": advantage,
        "advantages": advantage,
        "entropies": normal().abs(),
        "ratio": (logprobs - old).exp(),
        "delta": logprobs - old,
        "rewards": normal() * response,
        "values": normal() * response,
        "returns": normal() * response,
        "sampled": old + normal(0.1),
    }


def rows(seed: int) -> Inputs:
    """Response lengths of N rows, and the prompt of each."""
    draw = _draw(seed)
    return {
        "lengths": torch.randint(1, 30, (ROWS,), generator=draw),
        "prompts": torch.randint(0, 3, (ROWS,), generator=draw),
    }


def critic(seed: int) -> Inputs:
    """Values of the critic before and in the update; the gradient is that by the new ones."""
    given = tokens(seed)
    values = (given["values"] + 0.7 * given["rewards"]).requires_grad_()
    return {"values": values, "old": given["values"], "returns": given["returns"], "logprobs": values}


def pairs(seed: int) -> Inputs:
    """Scores of the chosen and the rejected responses of pairs, with the responses' lengths."""
    draw = _draw(seed)
    scores = (2 * torch.randn(2, ROWS, generator=draw).double()).requires_grad_()
    lengths = torch.randint(1, 20, (2, ROWS), generator=draw)
    return {
        "chosen": scores[0],
        "rejected": scores[1],
        "log_ratio": scores[0],
        "chosen_lengths": lengths[0],
        "rejected_lengths": lengths[1],
        "logprobs": scores,
    }


INPUTS: Mapping[str, tuple[Callable[[int], Inputs], tuple[str, ...]]] = {
    "select": (samples, ("rewards", "correct")),
    "advantage": (samples, ("rewards",)),
    "gae": (tokens, ("rewards", "values", "response")),
    "whiten": (tokens, ("advantages", "response")),
    "ratio": (tokens, ("logprobs", "old", "response")),
    "clip": (tokens, ("ratio", "advantage")),
    "aggregate": (rows, ("lengths",)),
    "correction": (tokens, ("ratio",)),
    "tokens": (tokens, ("entropies", "response")),
    "kl": (tokens, ("delta",)),
    "value": (critic, ("values", "old", "returns")),
    "preference": (pairs, ("chosen", "rejected")),
    "divergence": (pairs, ("log_ratio",)),
}
"""For each axis its random inputs, and those that its rules take by position."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The largest difference of a formula from its function, relative to numbers of size 1 or more."""

    value: float
    gradient: float

    @property
    def largest(self) -> float:
        return max(self.value, self.gradient)

    @property
    def holds(self) -> bool:
        return self.largest <= 1e-12


def called(axis: str, rule: Rule, given: Inputs) -> object:
    """The rule's result on the inputs of its axis: those by position, and by name the others that it names."""
    _, positional = INPUTS[axis]
    names = list(inspect.signature(rule_of(rule)).parameters)[len(positional) :]
    bound = rule.keywords if isinstance(rule, partial) else {}
    named = {name: given[name] for name in names if name in given and name not in bound}
    return rule(*(given[name] for name in positional), **named)


def prove(axis: str, rule: Rule, found: Formula, seeds: range = range(12)) -> Proof:
    """Compare the formula of a rule with the rule itself on inputs drawn from each seed."""
    shaped = any(isinstance(node, Symbol) and node.key == "penalty" for node in walk(found.value))
    # A rule about k samples of a prompt wants more of them; it is another rule where there are fewer.
    draw, k = INPUTS[axis][0], settings_of(rule).get("k")
    draw = partial(samples, size=k + 1) if draw is samples and isinstance(k, int) and k >= SAMPLES else draw
    draws = [draw(seed) for seed in seeds]
    left_out = set() if shaped else {"penalty"}
    proofs = [_prove(axis, rule, found, {k: v for k, v in given.items() if k not in left_out}) for given in draws]
    return Proof(max(proof.value for proof in proofs), max(proof.gradient for proof in proofs))


def _prove(axis: str, rule: Rule, found: Formula, given: Inputs) -> Proof:
    result = called(axis, rule, given)
    if found.count is not None and isinstance(result, tuple):
        counts = evaluate(found.count, given)
        return Proof(max(_apart(result[0], evaluate(found.value, given)), _apart(result[1], counts)), 0.0)
    if axis == "aggregate" and found.count is None:
        raise TypeError("its builder has to return Formula(weight, count=…), a row's part of the denominator")
    if axis == "gae" and isinstance(result, tuple):
        result = result[0]
    if not isinstance(result, Tensor):
        raise TypeError(type(result).__name__)
    if "pairs" in inspect.signature(rule_of(rule)).parameters:
        result = _marked(result, given["rewards"])
    value = evaluate(found.value, given).expand(result.shape)
    inside = (
        given["response"] if axis in ("gae", "whiten", "ratio", "tokens") else torch.ones_like(result, dtype=torch.bool)
    )
    slope = value if found.slope is None else evaluate(found.slope, given).expand(result.shape)
    return Proof(_apart(result[inside], value[inside]), _slopes_apart(result[inside], slope[inside], given))


def _marked(triples: Tensor, rewards: Tensor) -> Tensor:
    """(prompt, chosen, rejected) as a (P, G, G) matrix of truth values."""
    marks = torch.zeros(*rewards.shape, rewards.shape[1], dtype=torch.bool)
    marks[tuple(triples.T)] = True
    return marks


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the larger number, or to 1 where that is less; ∞ where one is NaN."""
    a, b = a.detach().double(), b.detach().double().expand(a.shape)
    if not a.numel():
        return 0.0
    apart = (a - b).abs() / torch.maximum(a.abs(), b.abs()).clamp(min=1)
    return float(apart.nan_to_num(torch.inf).max())


def _slopes_apart(result: Tensor, formula: Tensor, given: Inputs) -> float:
    if not result.requires_grad and not formula.requires_grad:
        return 0.0
    weights = torch.linspace(-1, 2, result.numel(), dtype=torch.float64).view_as(result)
    slopes = []
    for each in (result, formula):
        total = (weights * each).sum() + 0 * given["logprobs"].sum()
        slopes.append(torch.autograd.grad(total, given["logprobs"], retain_graph=True)[0])
    return _apart(*slopes)


def prove_loss(objective: PolicyObjective, aggregate: Aggregate, loss: Expression, seeds: range = range(4)) -> Proof:
    """Compare the formula of a whole loss with the objective on micro-batches that are optimiser batches themselves."""
    proofs = [_prove_loss(objective, aggregate, loss, tokens(seed)) for seed in seeds]
    return Proof(max(proof.value for proof in proofs), max(proof.gradient for proof in proofs))


def _prove_loss(objective: PolicyObjective, aggregate: Aggregate, loss: Expression, drawn: Inputs) -> Proof:
    reference, entropies = drawn["old"] + drawn["values"] / 3, drawn["values"].abs()
    advantage = drawn["advantage"][:, :1].expand_as(drawn["advantage"])
    if not any(isinstance(node, Symbol) and node.key in ("advantage", "advantages") for node in walk(loss)):
        advantage = torch.ones_like(advantage)  # it is in the formula as the constant that it is
    given = drawn | {"ref": reference, "entropies": entropies, "advantage": advantage, "advantages": advantage}
    given["weight"] = given["chosen_tokens"] = torch.ones_like(reference)
    given["entropy_coef"] = torch.full_like(reference, objective.entropy_coef)
    del given["ratio"], given["delta"]  # these are computed from their definitions
    given["prompts"] = torch.arange(ROWS) // 3
    weight, counts = aggregate(given["response"].sum(1), **rule_given(aggregate, prompts=given["prompts"]))
    batch = Batch(
        response=given["response"],
        row_weight=weight,
        denominator=float(counts.sum()),
        num_micro_batches=1,
        advantages=advantage,
        old_logprobs=given["old"],
        sampler_logprobs=given["sampled"],
        ref_logprobs=reference,
    )
    value = objective(given["logprobs"], entropies, batch).value
    formula = evaluate(loss, given)
    return Proof(_apart(value, formula.squeeze()), _slopes_apart(value[None], formula.reshape(1), given))
