"""The model being trained, as the objective sees it: tokens in, aligned log-probabilities out."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from winnow.ops.logprobs import token_entropies, token_logprobs


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

    def forward(self, tokens: Int[Tensor, "b s"], start: int, entropies: bool = False) -> Scores:
        """Scores of positions `start` and later (1 or more); zero before.

        Rows are right-padded, so causal attention needs no mask; `use_cache=False` keeps transformers from building one.
        """
        keep = tokens.shape[1] - start
        output = self.model(input_ids=tokens, use_cache=False, logits_to_keep=keep + 1)
        logits = output.logits[:, -keep - 1 : -1]
        return Scores(
            token_logprobs(logits, tokens, self.temperature),
            token_entropies(logits, tokens.shape[1], self.temperature) if entropies else None,
        )
