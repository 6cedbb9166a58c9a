"""The value model of PPO."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from winnow.models.backbone import hidden_states
from winnow.packed import Packed


class Critic(nn.Module):
    """A copy of the policy's backbone with a scalar head that starts at zero.

    The value at position s is the expected return before token s is drawn, so it reads the hidden state of s − 1. What
    the policy has frozen is shared, not copied: under LoRA a critic has adapters of its own on the policy's base.
    """

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        frozen = {id(weight): weight for weight in policy.parameters() if not weight.requires_grad}
        backbone = copy.deepcopy(policy.base_model, frozen)
        assert isinstance(backbone, PreTrainedModel)
        self.backbone = backbone
        self.head = nn.Linear(policy.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, rows: Packed) -> Float[Tensor, "b s"]:
        """Values of the response tokens, zero elsewhere."""
        values = self.head(hidden_states(self.backbone, rows)).squeeze(1)
        # Under autocast the head answers in bfloat16, which is too coarse for a return.
        return rows.spread(values if values.dtype == torch.float64 else values.float())
