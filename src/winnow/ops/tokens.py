"""Token choices: which response tokens keep their advantage, by a statistic of the whole iteration.

A rule reads (N, S) entropies that the sampler had at each token, and by name its log-probabilities and the advantages.
Thresholds are ranks among all response tokens of an iteration's batch, which are known before the first forward of an
update: neither micro-batches nor ranks change them.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from winnow.ops.spread import rounding

PerToken = Float[Tensor, "n s"]


def every_token(entropies: PerToken, response: Bool[Tensor, "n s"]) -> Bool[Tensor, "n s"]:
    """Every token of every response."""
    return response


def top_entropy(entropies: PerToken, response: Bool[Tensor, "n s"], share: float) -> Bool[Tensor, "n s"]:
    """The `share` of tokens of the highest entropy, and those that tie with the last (arXiv 2506.01939, 80/20 rule)."""
    return response & (entropies >= _kth_highest(entropies[response], share))


def low_covariance(
    entropies: PerToken, response: Bool[Tensor, "n s"], logprobs: PerToken, advantage: PerToken, share: float
) -> Bool[Tensor, "n s"]:
    """All tokens but the `share` of the highest (log π − mean)·(A − mean), which make entropy fall (Clip-Cov).

    arXiv 2505.22617, Eq. 10; the paper draws them at random among those within bounds, and here they are the first. A
    covariance that is not above 0 raises entropy or says nothing, as where all advantages are equal: no token of one
    is left out.
    """
    inside = response.to(logprobs.dtype)
    centred = [(of - (of * inside).sum() / inside.sum()) for of in (logprobs, advantage)]
    covariance = centred[0] * centred[1]
    nothing = rounding(logprobs[response].abs().max() * advantage[response].abs().max())
    return response & ((covariance < _kth_highest(covariance[response], share)) | (covariance <= nothing))


def _kth_highest(values: Float[Tensor, " t"], share: float) -> Float[Tensor, ""]:
    return values.sort(descending=True).values[max(1, round(share * len(values))) - 1]
