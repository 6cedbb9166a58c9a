"""Penalties on the length of a response, which `reward/length` selects: what is added to the reward of its verdict.

Nothing here imports torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from winnow.errors import ConfigError

LengthPenalty = Callable[[int, bool], float]
"""Tokens of a response, and whether it was cut off at the limit → what is added to its reward."""


def no_penalty() -> None:
    """The absence of a penalty on lengths."""
    return None


@dataclass(frozen=True)
class Overlong:
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13), times `factor`.

    With L_max = `max_tokens` and L_cache = `cache`, a response of L tokens gets 0 up to L_max − L_cache, then
    ((L_max − L_cache) − L) / L_cache, and −1 above L_max.
    """

    max_tokens: int
    cache: int
    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.cache <= self.max_tokens:
            raise ConfigError(
                f"reward.length.cache={self.cache}: has to be from 1 to reward.length.max_tokens={self.max_tokens}; "
                f"type reward.length.cache={max(1, self.max_tokens // 5)}"
            )

    def __call__(self, length: int, truncated: bool) -> float:
        return 0.0 - self.factor * min(1.0, max(0.0, (length - (self.max_tokens - self.cache)) / self.cache))


@dataclass(frozen=True)
class Truncated:
    """`penalty` off a response that was cut off at the limit on its length."""

    penalty: float

    def __call__(self, length: int, truncated: bool) -> float:
        return 0.0 - self.penalty if truncated else 0.0
