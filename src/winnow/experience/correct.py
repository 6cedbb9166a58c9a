"""Where the sampler is not quite the trainer: a weight on every token's advantage."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.experience.scorer import ByRow, Scored
from winnow.ops.ratio import token


def corrected(
    algorithm: PolicyGradient | ActorCritic, advantages: Mapping[int, Float[Tensor, " _"]], scored: Scored
) -> tuple[ByRow, dict[str, float]]:
    """The (S,) advantages of rows, each token's times its weight, and what is logged of the weights."""
    if not algorithm.corrects or not advantages:
        return advantages, {}
    found, ratios, weights = {}, [], []
    for i, advantage in advantages.items():
        response = torch.arange(len(advantage)) >= scored.sequences[i].prompt_length
        ratio = token(scored.old[i][None], scored.sampled[i][None], response[None])[0]
        weight = algorithm.correction(ratio)
        found[i] = advantage * weight
        ratios.append(ratio[response])
        weights.append(weight[response])
    ratio, weight = torch.cat(ratios), torch.cat(weights)
    return found, {
        "train/correction/mean": float(weight.mean()),
        "train/correction/changed_frac": float((weight != ratio).float().mean()),
    }
