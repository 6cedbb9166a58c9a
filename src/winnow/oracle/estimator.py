"""The gradient that an algorithm estimates from an iteration's samples, by the path that training takes.

Samples are given instead of drawn, and the policy is a table. From there on it is training's own code: scoring,
selection, advantages, corrections, aggregation, packing and the objective.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.errors import ConfigError
from winnow.experience.batching import Plan, TokenBudget
from winnow.experience.collect import Collector
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import ActorCriticExperience, PolicyGradientExperience
from winnow.experience.scoring import Scorer
from winnow.oracle.environment import EOS, Environment, Table
from winnow.oracle.policy import TabularCritic, TabularPolicy
from winnow.oracle.rule_watch import RuleWatch
from winnow.types import Completion, Finish, MicroBatch, Prompt, Rollouts
from winnow.verdict import Judgement, Verdict

BUDGET = TokenBudget(10_000, packed=True)


class Given(Collector):
    """A collector of samples that are given."""

    def __init__(self, rollouts: Rollouts) -> None:
        self.rollouts = rollouts

    def collect(self, iteration: int, clock: Clock) -> Rollouts:
        return self.rollouts


@dataclass(frozen=True)
class Tables:
    """The policies of an iteration.

    `sampler` drew the samples and reports its own log-probabilities, `old` is the policy before the updates by the
    trainer's forward, `new` is the policy whose gradient is estimated, and `reference` is the initial one.
    """

    sampler: Table
    old: Table
    new: Table
    reference: Table


@dataclass(frozen=True)
class GradientEstimator:
    """An algorithm on an environment with given policies and, if it has a critic, the critic's `values`."""

    environment: Environment
    tables: Tables
    algorithm: PolicyGradient | ActorCritic
    values: Float[Tensor, " states"] | None = None
    _completions: dict[tuple[int, int], Completion] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether the sampler's log-probabilities are those of the trainer's forward."""
        return torch.equal(self.tables.sampler, self.tables.old)

    def __call__(self, drawn: Sequence[Sequence[int]]) -> Table:
        """The estimate, in the direction of ascent, from the numbers of each prompt's responses."""
        return self.of(self.rollouts(drawn))

    def of(self, rollouts: Rollouts) -> Table:
        """The estimate, in the direction of ascent, from the samples of an iteration.

        It is that of the only optimiser step of its iteration or, where the policy has moved since the samples were
        drawn, of a later one. Where nothing of an iteration can be learnt from there is no step: the estimate is 0.

        Raises:
            ConfigError: it is not finite, or what a rule of a plug-in returns is not; the message names the rule, or
                the objective.
        """
        watch = RuleWatch()
        found = replace(self, algorithm=watch.over(self.algorithm))._estimate(rollouts)
        if watch.first is not None or not found.isfinite().all():
            raise ConfigError(watch.in_words())
        return found

    def _estimate(self, rollouts: Rollouts) -> Table:
        policy = TabularPolicy(self.environment, self.tables.old)
        initial = TabularPolicy(self.environment, self.tables.reference)
        scorer = Scorer(policy, initial, self.exact, BUDGET, kl_rows=0, seed=0, max_mismatch_kl=float("inf"))
        experience = self._source(Given(rollouts), scorer)(0, Clock())
        policy.become(self.tables.new)
        plan = Plan(minibatches=1, epochs=1, budget=BUDGET, aggregate=self.algorithm.aggregate, seed=0)
        estimate = torch.zeros_like(policy.table)
        for batch in plan.micro_batches(experience, plan.optimiser_batches(experience, 0)):
            assert isinstance(batch, MicroBatch)
            scores = policy(batch.rows, entropies=self.algorithm.objective.entropy_coef != 0)
            loss = self.algorithm.objective(scores.logprobs, scores.entropies, batch.terms)
            estimate -= torch.autograd.grad(loss.value, policy.table)[0]
        return estimate

    def _source(self, samples: Given, scorer: Scorer) -> PolicyGradientExperience | ActorCriticExperience:
        if isinstance(self.algorithm, PolicyGradient):
            updates = 1 if torch.equal(self.tables.new, self.tables.old) else 2
            return PolicyGradientExperience(samples, scorer, self.algorithm, updates)
        assert self.values is not None
        return ActorCriticExperience(samples, scorer, TabularCritic(self.environment, self.values), self.algorithm)

    def rollouts(self, drawn: Sequence[Sequence[int]]) -> Rollouts:
        """The rollouts of an iteration in which prompt i got the responses of the numbers `drawn[i]`."""
        judgements = tuple(tuple(self.judgement(p, n) for n in group) for p, group in enumerate(drawn))
        return Rollouts(
            prompts=tuple(map(self.prompt, range(len(drawn)))),
            completions=tuple(tuple(self.completion(p, n) for n in group) for p, group in enumerate(drawn)),
            texts=tuple(tuple("" for _ in group) for group in drawn),
            judgements=judgements,
            rewards=torch.stack([self.environment.rewards[p, list(group)] for p, group in enumerate(drawn)]),
            correct=torch.tensor([[of.verdict is Verdict.correct for of in group] for group in judgements]),
            policy_version=0,
        )

    def prompt(self, number: int) -> Prompt:
        """A prompt of the environment, whose key is its number."""
        return Prompt(f"{number}", self.environment.prompt(number), "", "")

    def judgement(self, prompt: int, number: int) -> Judgement:
        """The judgement on a response to a prompt."""
        correct = self.environment.is_correct(prompt, self.environment.responses[number])
        return Judgement(Verdict.correct if correct else Verdict.wrong, None)

    def completion(self, prompt: int, number: int) -> Completion:
        """A response to a prompt as the sampler reports it."""
        if (found := self._completions.get((prompt, number))) is None:
            tokens = self.environment.responses[number]
            logprobs: Float[Tensor, " t"] = self._sampled[prompt, number, : len(tokens)].clone()
            finish = Finish.EOS if tokens[-1] == EOS else Finish.LENGTH
            entropies = self.environment.token_entropies(self.tables.sampler)[prompt, number, : len(tokens)].clone()
            found = Completion(tokens, logprobs, entropies, finish)
            self._completions[prompt, number] = found
        return found

    @property
    def _sampled(self) -> Float[Tensor, "p n t"]:
        return self.environment.token_logprobs(self.tables.sampler)
