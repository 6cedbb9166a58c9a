"""Plain forwards, written as simply as can be: one whole row at a time, without packing, padding or a cache.

What training computes in a packed forward is held against these. They share no code with it but the model itself.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.models.policy import Critic, Policy
from winnow.packed import PromptedSequence


class PlainScores(NamedTuple):
    """The log-probability of each of a row's T response tokens, and the entropy (nats) of each one's distribution."""

    logprobs: Float[Tensor, " t"]
    entropies: Float[Tensor, " t"]


def plain_scores(policy: Policy, row: PromptedSequence, temperature: float) -> PlainScores:
    """Scores of the response tokens of `row` under `policy`'s model at `temperature`, with their graph if gradients
    are on."""
    tokens = torch.tensor([row.token_ids], device=policy.device)
    logits = policy.row_logits(tokens)[0, row.prompt_length - 1 : -1]
    logs = torch.log_softmax(_precise(logits) / temperature, dim=-1)
    drawn = logs.gather(1, tokens[0, row.prompt_length :, None])[:, 0]
    return PlainScores(drawn, -(logs.exp() * logs).sum(1))


def plain_values(critic: Critic, row: PromptedSequence) -> Float[Tensor, " t"]:
    """The critic's value before each response token of `row`."""
    tokens = torch.tensor([row.token_ids], device=critic.head.weight.device)
    return _precise(critic.row_values(tokens)[0, row.prompt_length - 1 : -1, 0])


def _precise(numbers: Tensor) -> Tensor:
    """At least float32, as a softmax and a return need it."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))
