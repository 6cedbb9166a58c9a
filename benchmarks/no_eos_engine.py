"""The torch engine without an end: for responses of a length that is known beforehand."""

from collections.abc import Sequence
from functools import wraps

from winnow.engines.torch_engine import TorchEngine


@wraps(TorchEngine)  # takes whatever settings that takes
def no_eos_engine(eos_ids: Sequence[int], **settings: int | None) -> TorchEngine:
    """No token ends a response, so that every row runs to `rollout.max_tokens`."""
    return TorchEngine((), **settings)  # pyright: ignore[reportArgumentType]
