"""PPO: the policy's objective plus the critic's. They share no parameter, so one optimiser with two groups serves both."""

from collections.abc import Iterator

from torch import Tensor, nn

from winnow.models.critic import Critic
from winnow.models.policy import Policy
from winnow.objectives import PolicyObjective, ValueObjective
from winnow.training.base import IterationModule, Optim
from winnow.types import Loss, MicroBatch


class ActorCriticModule(IterationModule):
    def __init__(
        self,
        policy: Policy,
        critic: Critic,
        optim: Optim,
        critic_lr: float,
        objective: PolicyObjective,
        value_objective: ValueObjective,
    ) -> None:
        super().__init__(policy, optim)
        self.critic, self.critic_lr = critic, critic_lr
        self.objective, self.value_objective = objective, value_objective

    def groups(self) -> Iterator[tuple[nn.Module, float]]:
        yield from super().groups()
        yield self.critic, self.critic_lr

    def training_step(self, batch: MicroBatch, batch_idx: int) -> Tensor:
        scores = self.policy(batch.rows, entropies=self.objective.entropy != 0)
        policy = self.objective(scores.logprobs, scores.entropies, batch.terms)
        value = self.value_objective(self.critic(batch.rows), batch.terms)
        total = {"train/loss/total": policy.metrics["train/loss/total"] + value.metrics["train/loss/value"].only_total}
        return self.whole_batch(Loss(policy.value + value.value, policy.metrics | value.metrics | total), batch)
