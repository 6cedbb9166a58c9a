"""The value model of PPO."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel


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

    def forward(self, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        hidden = self.backbone(input_ids=tokens, use_cache=False).last_hidden_state
        values = self.head(hidden).squeeze(2)
        # Under autocast the head answers in bfloat16, which is too coarse for a return.
        values = values if values.dtype == torch.float64 else values.float()
        return nn.functional.pad(values[:, :-1], (1, 0))
