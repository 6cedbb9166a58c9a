"""The model being trained, as the objective sees it: rows in, aligned log-probabilities out."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from winnow.models.backbone import has_plain_head, hidden_states, logits
from winnow.ops.logprobs import head_scores, logit_scores
from winnow.packed import Packed


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
