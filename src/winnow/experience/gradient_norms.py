"""Norms of the gradients of single responses, by which a collector divides samples among prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from winnow import distributed, signals
from winnow.errors import ConfigError
from winnow.experience.drawing import Weights
from winnow.experience.scoring import sequences_of
from winnow.models.policy import Policy
from winnow.models.sharding import is_sharded
from winnow.packed import pack
from winnow.types import Rollouts, Row

SHARDED = (
    "collector=budgets: reads gradients of single responses, which sharded weights (hardware.strategy=fsdp) do not "
    "have; type hardware=ddp, or another collector"
)


@dataclass(frozen=True, slots=True)
class ResponseGradients:
    """‖∇ log π(response | prompt)‖ of single responses, the log-probability summed over the response's tokens.

    Each response has a forward and a backward of its own, so that a rank holds the activations of one response and one
    gradient of the weights in question: those of the input embeddings (as the released code of GVM-RAFT has it; tied
    ones are the output layer's as well), or all that are trained. Nothing is added to the gradient of an update.
    """

    policy: Policy

    def __call__(self, rollouts: Rollouts, rows: Sequence[int], weights: Weights) -> list[float]:
        """The norms for these rows. Ranks share the work.

        Raises:
            ConfigError: the weights have no gradient, or are sharded over ranks.
        """
        if is_sharded(self.policy):
            raise ConfigError(SHARDED)
        parameters, sequences = self._parameters(weights), sequences_of(rollouts)
        mine = [self._norm(sequences[i], parameters) for i in distributed.contiguous_shard(rows)]
        return distributed.gather_contiguous(mine)

    def _parameters(self, weights: Weights) -> list[nn.Parameter]:
        every = self.policy.model.parameters()
        if weights == "embeddings":
            every = self.policy.model.get_input_embeddings().parameters()
        trained = [parameter for parameter in every if parameter.requires_grad]
        if not trained:
            raise ConfigError(
                f"collector.gradient={weights}: these weights are not trained in this run; type collector.gradient=all"
            )
        return trained

    def _norm(self, row: Row, parameters: list[nn.Parameter]) -> float:
        signals.check()
        device = self.policy.device
        with torch.enable_grad():
            total = self.policy(pack([row]).to(device)).logprobs.sum()
            gradients = torch.autograd.grad(total, parameters)
        return float(nn.utils.get_total_norm(gradients))
