"""LightningModules, one for each kind of training step: policy gradient, actor-critic, preference (DPO).

Their common base owns the optimiser, scales the loss for Lightning, guards updates whose gradient is zero or not
finite, and sums metrics over micro-batches and ranks.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from winnow import distributed
from winnow.experience.batching import without_items
from winnow.finite import finite_rows
from winnow.guards.non_finite import NonFiniteGuard
from winnow.guards.settings import NonFiniteSettings
from winnow.models.policy import Critic, FrozenCopy, Policy
from winnow.objectives import PolicyObjective, PreferenceObjective, Sync, ValueObjective
from winnow.training import sharded_state
from winnow.training.sharded import ShardedParts
from winnow.types import Loss, Mean, MicroBatch, PairBatch


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


@dataclass(frozen=True, slots=True)
class Computed:
    """The loss of a micro-batch, and the numbers of its forward, of which pairs have first all chosen rows."""

    loss: Loss
    logprobs: Float[Tensor, "b s"]
    entropies: Float[Tensor, "b s"] | None = None
    values: Float[Tensor, "b s"] | None = None

    def finite_items(self) -> Bool[Tensor, " b"]:
        """For each row or pair whether all its numbers and its part of the loss are finite."""
        found, items = finite_rows(self.logprobs, self.entropies, self.values), len(self.loss.parts)
        return found.view(-1, items).all(0) & finite_rows(self.loss.parts)

    def outputs(self) -> dict[str, Tensor]:
        """The numbers by name, for a dump."""
        named = {"logprobs": self.logprobs, "entropies": self.entropies, "new_values": self.values}
        return {name: of for name, of in named.items() if of is not None} | {"loss": self.loss.parts}


@dataclass(frozen=True)
class Following:
    """A reference policy that follows the policy, and the rule by which it does."""

    reference: FrozenCopy
    sync: Sync


ENTROPY_COEF = "entropy_coef"
"""Entry of a checkpoint with the state of an adaptive entropy coefficient."""
NO_END = NonFiniteSettings(max_consecutive=2**31, weights_mb=0)
"""Settings of a guard that ends nothing, for training steps outside of updates."""


class IterationModule(pl.LightningModule):
    """Base of the modules. A subclass defines `compute`, the forward and the loss of one micro-batch.

    `guard` looks after numbers that are not finite; a run replaces it by one that dumps them.
    """

    def __init__(self, policy: Policy, optim: OptimizerSettings) -> None:
        super().__init__()
        self.policy = policy
        self.optim = optim
        self.guard = NonFiniteGuard(NonFiniteSettings(max_consecutive=5, weights_mb=0))
        self.sharded: ShardedParts | None = None
        self.following: Following | None = None
        self._means: dict[str, Mean] = {}

    def configure_model(self) -> None:
        """Give the modules of a sharded run their shards, once Lightning has connected the ranks."""
        if self.sharded is not None:
            assert self.device_mesh is not None
            self.sharded.make(self.device_mesh["data_parallel"], self.trainer.strategy.root_device)

    def compute(self, batch: Any) -> Computed:
        """The loss of a micro-batch of the kind that this algorithm trains on, and the numbers behind it."""
        raise NotImplementedError

    def training_step(self, batch: MicroBatch | PairBatch, batch_idx: int) -> Tensor:
        """The loss of the rows or pairs whose numbers are finite, scaled for Lightning."""
        self.guard.begin(batch)
        computed = self.compute(batch)
        healthy = computed.finite_items()
        if self._any_rank(not bool(healthy.all())):
            return self._loss_without_faults(batch, computed, healthy)
        return self.scale_loss(computed.loss, batch)

    def _loss_without_faults(
        self, batch: MicroBatch | PairBatch, computed: Computed, healthy: Bool[Tensor, " b"]
    ) -> Tensor:
        """The loss without the items that are not `healthy`, computed anew.

        To mask them would not do: in the backward pass their activations are multiplied by zero, and NaN stays NaN.
        Where the others are not finite either, nothing is left of the micro-batch.
        """
        if not bool(healthy.all()):
            self.guard.leave_out(batch, healthy, computed.outputs(), self)
        keep = healthy.nonzero().flatten().tolist()
        if keep or self.sharded is not None:
            batch = without_items(batch, keep or [0]).to(self.policy.device)
            computed = self.compute(batch)
            healthy = computed.finite_items()
            if keep and bool(healthy.all()):
                return self.scale_loss(computed.loss, batch)
            if keep:
                self.guard.leave_out(batch, torch.zeros_like(healthy), computed.outputs(), self)
        if self.sharded is not None:
            # Every rank has to run the backward pass of its shards. Of a loss that is not finite no part can be taken:
            # the gradient is not finite either, and the update is skipped by all.
            return computed.loss.value * 0
        # A loss of zero that reaches every weight, because ranks wait for each other's gradients.
        return torch.stack([p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad]).sum()

    def _any_rank(self, fault: bool) -> bool:
        """Whether there is a fault here, or on any of the ranks that compute a sharded model together."""
        return fault if self.sharded is None else any(distributed.summed([fault]))

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
        self.trainer.accumulate_grad_batches = batch.terms.num_micro_batches // distributed.world_size()

    @property
    def copies(self) -> int:
        """The numbers in a checkpoint for each trained weight: itself, two moments, and a reference that follows it."""
        return 3 + (self.following is not None)

    def end_iteration(self, iteration: int) -> None:
        """Move what moves between iterations, after `iteration`, counted from 1.

        That is after its updates and before its checkpoint, in which the moved state stands: a resume does not move it
        again, and the next iteration is scored with it.
        """
        if (f := self.following) is not None and f.sync.is_due(iteration):
            f.reference.follow(self.policy, f.sync.share)

    def on_train_epoch_end(self) -> None:
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()  # their memory is another's while the next iteration is sampled

    def scale_loss(self, loss: Loss, batch: MicroBatch | PairBatch) -> Tensor:
        """The loss to return from `training_step`; its metrics are added to the iteration's.

        The loss is already divided by the denominator of the whole optimiser batch. But Lightning divides it once more
        by `accumulate_grad_batches`, and DDP averages gradients over ranks; this multiplies by both numbers beforehand.
        """
        for name, mean in loss.metrics.items():
            self._note(name, mean)
        return loss.value * batch.terms.num_micro_batches

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.guard.before_step(self, optimizer)
        limit = self.optim.grad_clip or float("inf")
        parts = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
        norms = [distributed.norm([p.grad for p in part if p.grad is not None]) for part in parts]
        # All ranks step, or none: a memory error of one of them comes after the gradients were averaged.
        finite = not any(distributed.summed([not all(torch.isfinite(norm) for norm in norms)]))
        if finite:
            self._note("train/grad_norm", Mean(float(norms[0]), 1))
        self.guard.end_step(self, norms, finite)  # before clipping, which spreads a NaN over all gradients
        for part, norm in zip(parts, norms, strict=True):
            nn.utils.clip_grads_with_norm_(part, limit, norm)
        for group, norm in zip(optimizer.param_groups, norms, strict=True):
            if norm == 0 or not finite:
                # AdamW skips parameters whose gradient is None. With gradients of zero it would still move the weights,
                # by momentum and weight decay.
                for parameter in group["params"]:
                    parameter.grad = None

    def take_metrics(self) -> dict[str, float]:
        """The metrics since the last call, summed over micro-batches and ranks and then divided once."""
        for name, mean in self.guard.take().items():
            self._note(name, mean)
        totals: dict[str, Mean] = {}
        for part in distributed.all_gather({name: mean.read for name, mean in self._means.items()}):
            for name, mean in part.items():
                totals[name] = totals.get(name, Mean(0, 0)) + mean
        self._means = {}
        return {name: mean.value for name, mean in totals.items()}

    @contextmanager
    def metrics_aside(self) -> Iterator[dict[str, Mean]]:
        """Context whose training steps note their metrics in the dictionary it gives, not among the iteration's.

        Rows that are left out in it belong to no update.
        """
        kept, self._means = self._means, {}
        guard, self.guard = self.guard, NonFiniteGuard(NO_END)
        try:
            yield self._means
        finally:
            for name, mean in self.guard.take().items():
                self._note(name, mean)
            self._means, self.guard = kept, guard

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
        checkpoint["bad_in_a_row"] = self.guard.in_a_row
        if self.following is not None:
            checkpoint[sharded_state.REFERENCE] = self.following.reference.weights()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.guard.in_a_row = checkpoint["bad_in_a_row"]
        if self.following is not None:
            sharded_state.load_reference(self.following.reference.weights(), checkpoint)
            self.following.reference.moves += 1


class PolicyGradientModule(IterationModule):
    """Training step of RAFT, RAFT++, Reinforce, Reinforce-Rej, GRPO and SFT."""

    def __init__(self, policy: Policy, optim: OptimizerSettings, objective: PolicyObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def compute(self, batch: MicroBatch) -> Computed:
        scores = self.policy(batch.rows, entropies=self.objective.entropy_coef != 0)
        loss = self.objective(scores.logprobs, scores.entropies, batch.terms)
        return Computed(loss, scores.logprobs, scores.entropies)

    def end_iteration(self, iteration: int) -> None:
        super().end_iteration(iteration)
        if (adaptive := self.objective.adaptive_entropy) is not None:
            adaptive.end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if (adaptive := self.objective.adaptive_entropy) is not None:
            checkpoint[ENTROPY_COEF] = adaptive.coef

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if (adaptive := self.objective.adaptive_entropy) is not None and ENTROPY_COEF in checkpoint:
            adaptive.coef = checkpoint[ENTROPY_COEF]


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

    def compute(self, batch: MicroBatch) -> Computed:
        computed, values = super().compute(batch), self.critic(batch.rows)
        policy, value = computed.loss, self.value_objective(values, batch.terms)
        total = {"train/loss/total": policy.metrics["train/loss/total"] + value.metrics["train/loss/value"].only_total}
        metrics = policy.metrics | value.metrics | total
        loss = Loss(policy.value + value.value, metrics, policy.parts + value.parts)
        return replace(computed, loss=loss, values=values)


class PreferenceModule(IterationModule):
    """Training step of DPO."""

    def __init__(self, policy: Policy, optim: OptimizerSettings, objective: PreferenceObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def compute(self, batch: PairBatch) -> Computed:
        logprobs = self.policy(batch.rows).logprobs
        chosen, rejected = logprobs.chunk(2)
        return Computed(self.objective(chosen, rejected, batch), logprobs)
