"""LightningModules, one for each kind of training step: policy gradient, actor-critic, preference (DPO).

Their common base owns the optimiser, scales the loss for Lightning, guards updates whose gradient is zero or not
finite, and sums metrics over micro-batches and ranks.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from winnow import distributed
from winnow.errors import Diverged
from winnow.models.policy import Critic, Policy
from winnow.objectives import PolicyObjective, PreferenceObjective, ValueObjective
from winnow.types import Loss, Mean, MicroBatch, PairBatch

MAX_NONFINITE_STEPS = 5
"""Number of consecutive updates with a gradient that is not finite after which the run ends as diverged."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Settings of AdamW and its learning-rate schedule.

    `warmup` is in iterations. `grad_clip` bounds the gradient norm of each parameter group separately; 0 is off.
    """

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    grad_clip: float
    warmup: int
    schedule: Literal["constant", "linear", "cosine"]

    def factor(self, iteration: int, iterations: int) -> float:
        """The factor on the learning rate in `iteration` (from 0), a function of the iteration without any state."""
        if iteration < self.warmup:
            return (iteration + 1) / self.warmup
        done = (iteration - self.warmup) / max(iterations - self.warmup, 1)
        return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[self.schedule]


ONE_EVENT = Mean(1, 0)
"""One event of a metric that is a count: it is summed and never divided."""


class IterationModule(pl.LightningModule):
    """Base of the modules. A subclass defines `training_step`, the loss of one micro-batch."""

    def __init__(self, policy: Policy, optim: OptimizerSettings) -> None:
        super().__init__()
        self.policy = policy
        self.optim = optim
        self._means: dict[str, Mean] = {}
        self._bad_in_a_row = 0

    def groups(self) -> Iterator[tuple[nn.Module, float]]:
        """The parts of the model that are parameter groups, clipped separately, each with its learning rate."""
        yield self.policy, self.optim.lr

    def configure_optimizers(self) -> Optimizer:
        parts = [[p for p in part.parameters() if p.requires_grad] for part, _ in self.groups()]
        return AdamW([{"params": params} for params in parts])

    def set_optimiser(self, optimizer: Optimizer, factor: float) -> None:
        """Set this run's hyperparameters; the optimiser state of a checkpoint brings those of the run that wrote it."""
        o = self.optim
        for group, (_, lr) in zip(optimizer.param_groups, self.groups(), strict=True):
            group |= {"lr": lr * factor, "betas": o.betas, "eps": o.eps, "weight_decay": o.weight_decay}

    def on_train_batch_start(self, batch: MicroBatch | PairBatch, batch_idx: int) -> None:
        # Lightning steps the optimiser after every `accumulate_grad_batches` micro-batches. The plan gives every
        # optimiser batch of an iteration the same number of them, so that the steps fall on the ends of optimiser
        # batches.
        self.trainer.accumulate_grad_batches = _num_micro_batches(batch) // distributed.world_size()

    def scale_loss(self, loss: Loss, batch: MicroBatch | PairBatch) -> Tensor:
        """The loss to return from `training_step`; its metrics are added to the iteration's.

        The loss is already divided by the denominator of the whole optimiser batch. But Lightning divides it once more
        by `accumulate_grad_batches`, and DDP averages gradients over ranks; this multiplies by both numbers beforehand.
        """
        for name, mean in loss.metrics.items():
            self._note(name, mean)
        return loss.value * _num_micro_batches(batch)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = self.optim.grad_clip or float("inf")
        norms = [nn.utils.clip_grad_norm_(group["params"], limit) for group in optimizer.param_groups]
        finite = all(torch.isfinite(norm) for norm in norms)
        for group, norm in zip(optimizer.param_groups, norms, strict=True):
            if norm == 0 or not finite:
                # AdamW skips parameters whose gradient is None. With gradients of zero it would still move the weights,
                # by momentum and weight decay.
                for parameter in group["params"]:
                    parameter.grad = None
        if finite:
            self._bad_in_a_row = 0
            self._note("train/grad_norm", Mean(float(norms[0]), 1))
            return
        self._note("train/updates_skipped_nonfinite", ONE_EVENT)
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_NONFINITE_STEPS:
            raise Diverged(
                f"{MAX_NONFINITE_STEPS} updates in a row had gradients that are not finite; "
                "lower optim.lr or turn clipping on (algo/clip=ppo)"
            )

    def take_metrics(self) -> dict[str, float]:
        """The metrics since the last call, summed over micro-batches and ranks and then divided once."""
        totals: dict[str, Mean] = {}
        for part in distributed.all_gather({name: mean.read for name, mean in self._means.items()}):
            for name, mean in part.items():
                totals[name] = totals.get(name, Mean(0, 0)) + mean
        self._means = {}
        return {name: mean.value for name, mean in totals.items()}

    @contextmanager
    def metrics_aside(self) -> Iterator[dict[str, Mean]]:
        """Context whose training steps note their metrics in the dictionary it gives, not among the iteration's."""
        kept, self._means = self._means, {}
        try:
            yield self._means
        finally:
            self._means = kept

    def _note(self, name: str, mean: Mean) -> None:
        self._means[name] = self._means.get(name, Mean(0, 0)) + mean

    @property
    def strict_loading(self) -> bool:
        """False if parameters are frozen: they are not in checkpoints, but loaded anew and compared by fingerprint."""
        return all(parameter.requires_grad for parameter in self.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Tied parameters have several names, all of which are in the state dict.
        parameters = self.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in parameters if not parameter.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}
        checkpoint["bad_in_a_row"] = self._bad_in_a_row

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._bad_in_a_row = checkpoint["bad_in_a_row"]


def _num_micro_batches(batch: MicroBatch | PairBatch) -> int:
    return (batch.chosen if isinstance(batch, PairBatch) else batch.terms).num_micro_batches


class PolicyGradientModule(IterationModule):
    """Training step of RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO and SFT."""

    def __init__(self, policy: Policy, optim: OptimizerSettings, objective: PolicyObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def training_step(self, batch: MicroBatch, batch_idx: int) -> Tensor:
        return self.scale_loss(self.policy_loss(batch), batch)

    def policy_loss(self, batch: MicroBatch) -> Loss:
        scores = self.policy(batch.rows, entropies=self.objective.entropy != 0)
        return self.objective(scores.logprobs, scores.entropies, batch.terms)


class ActorCriticModule(PolicyGradientModule):
    """Training step of PPO: policy and critic are two parameter groups of one optimiser."""

    def __init__(
        self,
        policy: Policy,
        critic: Critic,
        optim: OptimizerSettings,
        critic_lr: float,
        objective: PolicyObjective,
        value_objective: ValueObjective,
    ) -> None:
        super().__init__(policy, optim, objective)
        self.critic, self.critic_lr, self.value_objective = critic, critic_lr, value_objective

    def groups(self) -> Iterator[tuple[nn.Module, float]]:
        yield from super().groups()
        yield self.critic, self.critic_lr

    def training_step(self, batch: MicroBatch, batch_idx: int) -> Tensor:
        policy = self.policy_loss(batch)
        value = self.value_objective(self.critic(batch.rows), batch.terms)
        total = {"train/loss/total": policy.metrics["train/loss/total"] + value.metrics["train/loss/value"].only_total}
        return self.scale_loss(Loss(policy.value + value.value, policy.metrics | value.metrics | total), batch)


class PreferenceModule(IterationModule):
    """Training step of DPO."""

    def __init__(self, policy: Policy, optim: OptimizerSettings, objective: PreferenceObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        chosen, rejected = self.policy(batch.rows).logprobs.chunk(2)
        return self.scale_loss(self.objective(chosen, rejected, batch), batch)
