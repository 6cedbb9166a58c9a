"""Evidence of an iteration: what its rows were made of, kept until its updates are done, for their checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from winnow.types import Rollouts


@dataclass(frozen=True, slots=True)
class Evidence:
    """The rollouts of an iteration and the log-probabilities of its rows before the first update.

    `old` and `reference` hold (S,) tensors by row number: log-probabilities under the policy that sampled and under the
    reference policy. `numbers` gives for each item of the experience the row number of each of its rows, and `chosen`
    for each row the (S,) tokens that keep their advantage; without a choice of tokens it is empty.
    """

    rollouts: Rollouts
    old: Mapping[int, Float[Tensor, " _"]]
    reference: Mapping[int, Float[Tensor, " _"]]
    numbers: tuple[tuple[int, ...], ...]
    chosen: Mapping[int, Bool[Tensor, " _"]] = field(default_factory=dict)
