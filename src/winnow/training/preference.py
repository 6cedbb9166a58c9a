"""Iterative DPO: one forward over both sides of each pair, which share their prompt; one margin."""

from torch import Tensor

from winnow.models.policy import Policy
from winnow.objectives import PreferenceObjective
from winnow.training.base import IterationModule, Optim
from winnow.types import PairBatch


class PreferenceModule(IterationModule):
    def __init__(self, policy: Policy, optim: Optim, objective: PreferenceObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        chosen, rejected = self.policy(batch.rows).logprobs.chunk(2)
        return self.whole_batch(self.objective(chosen, rejected, batch), batch)
