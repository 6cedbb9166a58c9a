"""RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO and supervised learning: one forward, one objective."""

from torch import Tensor

from winnow.models.policy import Policy
from winnow.objectives import PolicyObjective
from winnow.training.base import IterationModule, Optim
from winnow.types import MicroBatch


class PolicyGradientModule(IterationModule):
    def __init__(self, policy: Policy, optim: Optim, objective: PolicyObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def training_step(self, batch: MicroBatch, batch_idx: int) -> Tensor:
        scores = self.policy(batch.rows, entropies=self.objective.entropy != 0)
        return self.whole_batch(self.objective(scores.logprobs, scores.entropies, batch.terms), batch)
