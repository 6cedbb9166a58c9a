"""What the modules share: the optimiser, the global denominator, guarded steps, and figures that add up."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from winnow import distributed
from winnow.errors import Diverged
from winnow.models.policy import Critic, Policy
from winnow.objectives import PolicyObjective, PreferenceObjective, ValueObjective
from winnow.types import Loss, Mean, MicroBatch, PairBatch

MAX_NONFINITE_STEPS = 5
"""Updates in a row whose gradient is not finite before the run gives up."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """AdamW. `warmup` is in iterations; `grad_clip` bounds the norm of each parameter group, 0 is off."""

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    grad_clip: float
    warmup: int
    schedule: Literal["constant", "linear", "cosine"]

    def factor(self, iteration: int, iterations: int) -> float:
        """What the learning rate of `iteration` (from 0) is multiplied by; a function of the iteration alone."""
        if iteration < self.warmup:
            return (iteration + 1) / self.warmup
        done = (iteration - self.warmup) / max(iterations - self.warmup, 1)
        return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[self.schedule]


ONE_EVENT = Mean(1, 0)
"""An event: summed, and never divided."""


class IterationModule(pl.LightningModule):
    """Subclasses say what is trained and what one micro-batch loses."""

    def __init__(self, policy: Policy, optim: OptimizerSettings) -> None:
        super().__init__()
        self.policy = policy
        self.optim = optim
        self._means: dict[str, Mean] = {}
        self._bad_in_a_row = 0

    def groups(self) -> Iterator[tuple[nn.Module, float]]:
        """Each separately clipped part and its learning rate."""
        yield self.policy, self.optim.lr

    def configure_optimizers(self) -> Optimizer:
        parts = [[p for p in part.parameters() if p.requires_grad] for part, _ in self.groups()]
        return AdamW([{"params": params} for params in parts])

    def set_optimiser(self, optimizer: Optimizer, factor: float) -> None:
        """The settings of this run, also where a checkpoint brought its own."""
        o = self.optim
        for group, (_, lr) in zip(optimizer.param_groups, self.groups(), strict=True):
            group |= {"lr": lr * factor, "betas": o.betas, "eps": o.eps, "weight_decay": o.weight_decay}

    def on_train_batch_start(self, batch: MicroBatch | PairBatch, batch_idx: int) -> None:
        # Constant within an iteration, so Lightning's windows and our optimiser batches begin and end together.
        self.trainer.accumulate_grad_batches = _num_micro_batches(batch) // distributed.world_size()

    def scale_loss(self, loss: Loss, batch: MicroBatch | PairBatch) -> Tensor:
        """The loss as Lightning must see it, its metrics noted.

        Lightning divides by accumulate_grad_batches and DDP averages over ranks; the denominator is already global.
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
                # Without gradients AdamW touches nothing; with zeros it would still move weights by momentum and decay.
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
        """Everything noted since the last call, over all ranks, divided once."""
        mine = {name: mean.read for name, mean in self._means.items()}
        parts: list[dict[str, Mean]] = [mine]
        if distributed.world_size() > 1:
            parts = [{} for _ in range(distributed.world_size())]
            dist.all_gather_object(parts, mine)
        totals: dict[str, Mean] = {}
        for part in parts:
            for name, mean in part.items():
                totals[name] = totals.get(name, Mean(0, 0)) + mean
        self._means = {}
        return {name: mean.value for name, mean in totals.items()}

    def _note(self, name: str, mean: Mean) -> None:
        self._means[name] = self._means.get(name, Mean(0, 0)) + mean

    @property
    def strict_loading(self) -> bool:
        """What is frozen is not in a checkpoint: it is loaded anew, and its fingerprint compared."""
        return all(parameter.requires_grad for parameter in self.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        frozen = {
            name for name, parameter in self.named_parameters(remove_duplicate=False) if not parameter.requires_grad
        }
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}
        checkpoint["bad_in_a_row"] = self._bad_in_a_row

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._bad_in_a_row = checkpoint["bad_in_a_row"]


def _num_micro_batches(batch: MicroBatch | PairBatch) -> int:
    return (batch.chosen if isinstance(batch, PairBatch) else batch.terms).num_micro_batches


class PolicyGradientModule(IterationModule):
    def __init__(self, policy: Policy, optim: OptimizerSettings, objective: PolicyObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def training_step(self, batch: MicroBatch, batch_idx: int) -> Tensor:
        scores = self.policy(batch.rows, entropies=self.objective.entropy != 0)
        return self.scale_loss(self.objective(scores.logprobs, scores.entropies, batch.terms), batch)


class ActorCriticModule(IterationModule):
    def __init__(
        self,
        policy: Policy,
        critic: Critic,
        optim: OptimizerSettings,
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
        return self.scale_loss(Loss(policy.value + value.value, policy.metrics | value.metrics | total), batch)


class PreferenceModule(IterationModule):
    def __init__(self, policy: Policy, optim: OptimizerSettings, objective: PreferenceObjective) -> None:
        super().__init__(policy, optim)
        self.objective = objective

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        chosen, rejected = self.policy(batch.rows).logprobs.chunk(2)
        return self.scale_loss(self.objective(chosen, rejected, batch), batch)
