"""From logits to log-probabilities: the one place where positions shift by one."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def token_logprobs(
    logits: Float[Tensor, "b k v"], tokens: Int[Tensor, "b s"], temperature: float
) -> Float[Tensor, "b s"]:
    """log π(token s | tokens < s) at `temperature`, zero where no logits reach.

    `logits` are those of the last k + 1 positions of `tokens` but the very last, which predicts nothing: row j of them
    predicts token s = S − k + j.
    """
    k = logits.shape[1]
    scaled = logits.float() / temperature if logits.dtype != torch.float64 else logits / temperature
    picked = scaled.gather(2, tokens[:, -k:, None]).squeeze(2) - scaled.logsumexp(2)
    return torch.nn.functional.pad(picked, (tokens.shape[1] - k, 0))


def token_entropies(logits: Float[Tensor, "b k v"], length: int, temperature: float) -> Float[Tensor, "b s"]:
    """Entropy in nats of the distribution that each token was drawn from, aligned as in `token_logprobs`; S = `length`."""
    scaled = logits.float() / temperature if logits.dtype != torch.float64 else logits / temperature
    logs = scaled.log_softmax(2)
    entropy = -(logs.exp() * logs).sum(2)
    return torch.nn.functional.pad(entropy, (length - logits.shape[1], 0))
