"""The tokens of an iteration's batch that keep their advantage, by the rule `algo.tokens`."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.experience.scoring import ByRow, Scored
from winnow.rule import called, given, mask_returned
from winnow.types import Rollouts

Chosen = Mapping[int, Bool[Tensor, " _"]]
"""Row number → the (S,) tokens that keep their advantage."""


def chosen_tokens(
    algorithm: PolicyGradient | ActorCritic, advantages: ByRow, scored: Scored, rollouts: Rollouts
) -> Chosen:
    """The chosen tokens of the rows of `advantages`, which are those of the batch; none if every token is chosen."""
    if not algorithm.chooses_tokens or not advantages:
        return {}
    rows, completions = list(advantages), rollouts.all_completions
    starts = {i: scored.sequences[i].prompt_length for i in rows}
    response = _padded([torch.arange(len(advantages[i])) >= starts[i] for i in rows])
    entropies = _padded([pad(completions[i].entropies, (starts[i], 0)) for i in rows])
    more = given(
        algorithm.tokens,
        logprobs=_padded([scored.sampled[i] for i in rows]),
        advantage=_padded([advantages[i] for i in rows]),
    )
    kept = mask_returned(
        "tokens", algorithm.tokens, called("tokens", algorithm.tokens, entropies, response, **more), response
    )
    return {i: kept[n, : len(advantages[i])] for n, i in enumerate(rows)}


def of_chosen(advantages: ByRow, chosen: Chosen) -> dict[int, Float[Tensor, " _"]]:
    """The advantages of rows, 0 at tokens that are not chosen."""
    return {i: torch.where(chosen[i], row, 0.0) if i in chosen else row for i, row in advantages.items()}


def choice_metrics(chosen: Chosen, scored: Scored) -> dict[str, float]:
    """The share of the batch's response tokens that are chosen."""
    total = sum(scored.sequences[i].response_length for i in chosen)
    return {"train/tokens/chosen_frac": sum(int(row.sum()) for row in chosen.values()) / total} if chosen else {}


def _padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)
