"""The model being trained, as the objective sees it: rows in, aligned log-probabilities out."""

import copy
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from winnow.models.backbone import has_plain_head, hidden_states, logits
from winnow.ops.logprobs import head_scores, logit_scores
from winnow.packed import Packed

if TYPE_CHECKING:
    from peft import PeftModel


class Scores(NamedTuple):
    """Per position: the token's log-probability, and the entropy of the distribution it was drawn from if asked."""

    logprobs: Float[Tensor, "b s"]
    entropies: Float[Tensor, "b s"] | None


class Policy(nn.Module):
    """A causal language model at the temperature it is sampled with."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.plain_head = has_plain_head(model)

    def forward(self, rows: Packed, entropies: bool = False) -> Scores:
        """Scores of the response tokens, zero elsewhere."""
        if self.plain_head:
            head = self.model.get_output_embeddings()
            hidden = hidden_states(self.model.base_model, rows)  # pyright: ignore[reportArgumentType]
            found = head_scores(hidden, head.weight, head.bias, rows.targets, self.temperature, entropies)  # pyright: ignore
        else:
            found = logit_scores(logits(self.model, rows), rows.targets, self.temperature, entropies)
        logprobs, entropy = found
        return Scores(rows.spread(logprobs), None if entropy is None else rows.spread(entropy))


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


@runtime_checkable
class Reference(Protocol):
    """Scores under weights that never change; without gradients."""

    def __call__(self, rows: Packed) -> Scores: ...
    def to(self, device: torch.device) -> object: ...


class FrozenCopy:
    """A second copy of all weights."""

    def __init__(self, policy: Policy) -> None:
        self._policy = copy.deepcopy(policy).requires_grad_(False).eval()

    def __call__(self, rows: Packed) -> Scores:
        with torch.no_grad():
            return self._policy(rows)

    def to(self, device: torch.device) -> None:
        """It is nobody's submodule, so nobody else moves it."""
        self._policy.to(device)


class AdaptersOff:
    """The policy itself without its adapters, which are all that training changes: no second copy."""

    def __init__(self, policy: Policy, adapter: "PeftModel") -> None:
        self._policy, self._adapter = policy, adapter

    def __call__(self, rows: Packed) -> Scores:
        with torch.no_grad(), self._adapter.disable_adapter():
            return self._policy(rows)

    def to(self, device: torch.device) -> None:
        """Where the policy is, it is."""


def reference_of(policy: Policy, adapter: "PeftModel | None") -> Reference:
    """To be made before the first update."""
    return FrozenCopy(policy) if adapter is None else AdaptersOff(policy, adapter)
