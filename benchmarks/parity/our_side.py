"""Winnow's side: the experience, the plan of micro-batches and the objective of an algorithm, on given numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.parity.numbers import PROMPTS, SAMPLES, Loss, Numbers
from winnow.algorithm import PolicyGradient
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.experience.batching import Plan, TokenBudget
from winnow.experience.collect import Collector
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import PolicyGradientExperience
from winnow.experience.scoring import Scored, Scorer, sequences_of
from winnow.models.precision import new_tensors_in_float64
from winnow.objectives import PolicyObjective
from winnow.types import Completion, Finish, Prompt, Rewarded, Rollouts
from winnow.verdict import Judgement, Verdict

PROMPT = (40, 41)


class _Given(Collector):
    """A collector that has drawn the given responses."""

    def __init__(self, rollouts: Rollouts) -> None:
        self.rollouts = rollouts

    def collect(self, iteration: int, clock: Clock) -> Rollouts:
        return self.rollouts


class _GivenScores(Scorer):
    """A scorer that knows the given log-probabilities; the sampler is not exactly the policy."""

    def __init__(self, of: Numbers) -> None:
        object.__setattr__(self, "of", of)
        object.__setattr__(self, "exact", False)

    def for_objective(
        self, objective: PolicyObjective, needs_old: bool, rollouts: Rollouts, iteration: int, in_batch: Sequence[int]
    ) -> Scored:
        of: Numbers = object.__getattribute__(self, "of")
        sampled, old, reference = (
            [pad(row, (len(PROMPT), 0)) for row in rows] for rows in (of.sampled, of.old, of.reference)
        )
        return Scored(sequences_of(rollouts), sampled, dict(enumerate(old)), dict(enumerate(reference)), {}, {})


def rollouts_of(of: Numbers, weights: Sequence[float]) -> Rollouts:
    """The responses as a judge and a reward would leave them; a reward of 0.5 or more is a success."""
    parts = of.rewards[..., : len(weights)]
    rewards = (parts * torch.tensor(weights, dtype=torch.float64)).sum(2)
    correct = of.rewards[..., 0] >= 0.5
    verdicts = [[Verdict.correct if right else Verdict.wrong for right in row] for row in correct.tolist()]

    def completion(i: int) -> Completion:
        finish = Finish.LENGTH if of.truncated[i] else Finish.EOS
        return Completion(of.tokens[i], of.sampled[i], of.entropies[i], finish)

    def rewarded(p: int, g: int) -> Rewarded:
        names = {f"reward{m}": float(parts[p, g, m]) for m in range(parts.shape[2])}
        return Rewarded(float(rewards[p, g]), Judgement(verdicts[p][g], "1"), names)

    return Rollouts(
        prompts=tuple(Prompt(f"p{p}", (*PROMPT[:-1], 41 + p), "", "1") for p in range(PROMPTS)),
        completions=tuple(tuple(completion(p * SAMPLES + g) for g in range(SAMPLES)) for p in range(PROMPTS)),
        texts=tuple(tuple("" for _ in range(SAMPLES)) for _ in range(PROMPTS)),
        judgements=tuple(tuple(Judgement(v, "1") for v in row) for row in verdicts),
        rewards=rewards,
        correct=correct,
        policy_version=0,
        rewarded=tuple(tuple(rewarded(p, g) for g in range(SAMPLES)) for p in range(PROMPTS)),
        weights=tuple(weights),
    )


def our_loss(
    words: Sequence[str], of: Numbers, weights: Sequence[float] = (1.0,), budget: int = 1000, updates: int = 4
) -> Loss:
    """The loss of the iteration as one optimiser batch, in micro-batches of up to `budget` tokens."""
    algorithm = build_algorithm(composed("train", words, ("algo",)))
    assert isinstance(algorithm, PolicyGradient)
    with new_tensors_in_float64():
        collect = PolicyGradientExperience(_Given(rollouts_of(of, weights)), _GivenScores(of), algorithm, updates)
        found = collect(0, Clock())
        assert found.evidence is not None
        row_of = {id(item): place for item, (place,) in zip(found.items, found.evidence.numbers, strict=True)}
        leaves = [row.clone().requires_grad_() for row in of.current]
        plan = Plan(1, 1, TokenBudget(budget, packed=True), algorithm.aggregate, 0)
        total = torch.zeros(())
        for batch in plan.micro_batches(found, plan.optimiser_batches(found, 0)):
            width, rows = batch.terms.response.shape[1], [row_of[id(item)] for item in batch.items]
            logprobs = _aligned([leaves[i] for i in rows], width)
            entropies = _aligned([of.entropies[i] for i in rows], width)
            total = total + algorithm.objective(logprobs, entropies, batch.terms).value
        slopes = torch.autograd.grad(total, leaves, allow_unused=True)
    gradient = [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, slopes, strict=True)]
    value = float(total.detach())
    assert not math.isnan(value)
    return Loss(value, gradient)


def _aligned(rows: Sequence[Tensor], width: int) -> Tensor:
    """Responses as packed rows have them: after the prompt, then padding."""
    return torch.stack([pad(row, (len(PROMPT), width - len(PROMPT) - len(row))) for row in rows])
