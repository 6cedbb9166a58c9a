"""An estimator on iterations that a collector draws: how many samples a prompt has depends on what was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from winnow.errors import ConfigError
from winnow.experience.collectors import CollectorRule
from winnow.experience.drawing import Drawing, Judged, Weights
from winnow.experience.scoring import sequences_of
from winnow.oracle.environment import Table
from winnow.oracle.estimator import GradientEstimator
from winnow.oracle.policy import TabularPolicy
from winnow.packed import pack
from winnow.rewards.reward import JudgedGroup, Rewards
from winnow.rng import seed_of, uniforms
from winnow.types import Prompt, Rewarded, Rollouts


@dataclass(frozen=True)
class CollectedEstimator:
    """Iterations of a training run with a collector, each with the estimate of `estimator`.

    The order of the problems goes through the environment's prompts again and again, so that a collector that meets
    further prompts meets these.
    """

    estimator: GradientEstimator
    rule: CollectorRule
    samples: int
    seed: int

    def __call__(self, iteration: int) -> tuple[Table, int]:
        """The estimate of an iteration, and the number of responses that it drew."""
        prompts = self.estimator.environment.prompts
        drawing = Drawing(prompts, self.samples, self._upcoming, self._draw, self._norms, self.seed, iteration)
        rollouts = self.rule(drawing)
        return self.estimator.of(rollouts), int(rollouts.sizes.sum())

    def _upcoming(self, first: int, end: int) -> Sequence[Prompt]:
        count = self.estimator.environment.prompts
        return [self.estimator.prompt(number % count) for number in range(first, end)]

    def _draw(self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]) -> Judged:
        environment, numbers = self.estimator.environment, [int(prompt.key) for prompt in prompts]
        bounds = environment.probabilities(self.estimator.tables.sampler).cumsum(1)
        last, groups, rewards = len(environment.responses) - 1, [], []
        for p, of_prompt in zip(numbers, seeds, strict=True):
            uniform = torch.tensor([uniforms(seed_of(seed, "response"), 1)[0] for seed in of_prompt])
            drawn = torch.searchsorted(bounds[p], uniform, right=True).clamp(max=last).tolist()
            judged = tuple(self.estimator.judgement(p, n) for n in drawn)
            completions = tuple(self.estimator.completion(p, n) for n in drawn)
            groups.append(JudgedGroup(completions, ("",) * len(drawn), judged, tuple(of_prompt)))
            totals = environment.rewards[p, drawn].tolist()
            rewards.append(tuple(Rewarded(*each) for each in zip(totals, judged, strict=True)))
        return Judged(prompts, groups, Rewards(rewards), 0)

    def _norms(self, rollouts: Rollouts, rows: Sequence[int], weights: Weights) -> list[float]:
        if weights == "embeddings":
            raise ConfigError("collector.gradient=embeddings: a table has none; type collector.gradient=all")
        policy, sequences = TabularPolicy(self.estimator.environment, self.estimator.tables.old), sequences_of(rollouts)
        sums = (policy(pack([sequences[i]])).logprobs.sum() for i in rows)
        return [float(torch.autograd.grad(of, policy.table)[0].norm()) for of in sums]
