"""Policy, critic and reference policy: rows of tokens in, log-probabilities or values aligned with the tokens out."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from winnow.distributed import device_of, local
from winnow.models.backbone import has_plain_head, hidden_states, logits
from winnow.models.logprobs import head_scores, logit_scores
from winnow.models.sharding import is_sharded, is_without_memory
from winnow.packed import Packed

if TYPE_CHECKING:
    from peft import PeftModel


class Scores(NamedTuple):
    """The log-probability of each token and, on request, the entropy of the distribution that it was drawn from."""

    logprobs: Float[Tensor, "b s"]
    entropies: Float[Tensor, "b s"] | None


class Policy(nn.Module):
    """A causal language model, scored at the temperature at which it is sampled."""

    def __init__(self, model: PreTrainedModel, temperature: float, checked: PreTrainedModel | None = None) -> None:
        """`checked` is a model of the same kind with weights, if `model` has none yet."""
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.plain_head = has_plain_head(checked or model)

    @property
    def device(self) -> torch.device:
        return device_of(self)

    def forward(self, rows: Packed, entropies: bool = False) -> Scores:
        """Scores of the response tokens; zero at all other positions."""
        if self.plain_head:
            head = self.model.get_output_embeddings()
            hidden = hidden_states(self.model.base_model, rows)  # pyright: ignore[reportArgumentType]
            weight, bias = head.weight, head.bias  # pyright: ignore[reportOptionalMemberAccess]
            found = head_scores(hidden, weight, bias, rows.targets, self.temperature, entropies)  # pyright: ignore
        else:
            found = logit_scores(logits(self.model, rows), rows.targets, self.temperature, entropies)
        logprobs, entropy = found
        return Scores(rows.spread(logprobs), None if entropy is None else rows.spread(entropy))

    def row_logits(self, tokens: Int[Tensor, "1 s"]) -> Float[Tensor, "1 s v"]:
        """The model's own logits at every position of one whole row, without packing."""
        return self.model(input_ids=tokens, use_cache=False).logits


class Critic(nn.Module):
    """Value model: a copy of the policy's backbone with a scalar head that starts at zero.

    The value at position s is the expected return before token s is drawn, and is therefore computed from the hidden
    state at s − 1. Weights that are frozen in the policy are shared, not copied: under LoRA the critic has its own
    adapters on the policy's base.
    """

    def __init__(self, policy: PreTrainedModel) -> None:
        super().__init__()
        shared = {id(weight): weight for weight in policy.parameters() if not weight.requires_grad}
        # Shards belong to one module each.
        backbone = copy.deepcopy(policy.base_model, {} if is_without_memory(policy) else shared)
        assert isinstance(backbone, PreTrainedModel)
        self.backbone = backbone
        width = policy.config.get_text_config().hidden_size
        self.head = nn.Linear(width, 1, dtype=policy.dtype, device="meta" if is_without_memory(policy) else None)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, rows: Packed) -> Float[Tensor, "b s"]:
        """Values at the response tokens; zero at all other positions."""
        values = self.head(hidden_states(self.backbone, rows)).squeeze(1)
        # Under autocast the head computes in bfloat16, which is too coarse for a return.
        return rows.spread(values if values.dtype == torch.float64 else values.float())

    def row_values(self, tokens: Int[Tensor, "1 s"]) -> Float[Tensor, "1 s 1"]:
        """The head's output at every position of one whole row, without packing."""
        return self.head(self.backbone(input_ids=tokens, use_cache=False).last_hidden_state)


@runtime_checkable
class Reference(Protocol):
    """Reference policy: scores under weights that no update changes, without gradients."""

    def __call__(self, rows: Packed) -> Scores: ...
    def to(self, device: torch.device) -> object: ...


class FrozenCopy:
    """Reference policy with its own copy of all weights; `moves` counts how often they have been changed."""

    def __init__(self, policy: Policy) -> None:
        self.copied = copy.deepcopy(policy).requires_grad_(False).eval()
        self.moves = 0

    def follow(self, policy: Policy, share: float) -> None:
        """Move each weight by `share` of the way to the policy's. Of sharded weights, each rank moves its own part."""
        with torch.no_grad():
            for mine, other in zip(self.copied.parameters(), policy.parameters(), strict=True):
                own = local(mine)
                own.lerp_(local(other).to(own), share)
        self.moves += 1

    def weights(self) -> dict[str, Tensor]:
        """The weights by name, tied ones once."""
        return {name: parameter.detach() for name, parameter in self.copied.named_parameters()}

    def __call__(self, rows: Packed) -> Scores:
        with torch.no_grad():
            return self.copied(rows)

    @contextmanager
    def policy(self) -> Iterator[Policy]:
        """Context with the policy whose forward is the reference policy's."""
        yield self.copied

    def to(self, device: torch.device) -> None:
        """Move the copy, which is a submodule of nothing and would otherwise stay where it is."""
        if not is_sharded(self.copied):  # shards are made where they stay
            self.copied.to(device)


class AdaptersOff:
    """Reference policy without a second copy of the weights: the policy with its adapters disabled.

    Training changes the adapters alone, so that the weights below them stay those of the initial model.
    """

    def __init__(self, policy: Policy, adapter: "PeftModel") -> None:
        self._policy, self._adapter = policy, adapter

    def __call__(self, rows: Packed) -> Scores:
        with torch.no_grad(), self._adapter.disable_adapter():
            return self._policy(rows)

    @contextmanager
    def policy(self) -> Iterator[Policy]:
        """Context with the policy whose forward is the reference policy's."""
        with self._adapter.disable_adapter():
            yield self._policy

    def to(self, device: torch.device) -> None:
        """Does nothing: the reference shares the policy's weights and moves with them."""


def reference_of(policy: Policy, adapter: "PeftModel | None") -> FrozenCopy | AdaptersOff:
    """The reference policy that suits `policy`; it has to be made before the first update."""
    return FrozenCopy(policy) if adapter is None else AdaptersOff(policy, adapter)
