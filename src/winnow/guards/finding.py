"""Findings of the update check: a failed check with what was expected and what was found."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed, by name, and where; `expected` comes from a plain recount, `found` is what the run has."""

    check: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Differences between two computations of one number in exact arithmetic that are rounding.

    `logprob` is the root mean square over tokens, in nats, `gradient` is relative to the norms of the rows' gradients,
    and `kl` is in nats per token. `number` is relative, for what is computed in float32 on any device.
    """

    logprob: float
    gradient: float
    kl: float
    number: float = 1e-4

    @classmethod
    def of(cls, dtype: torch.dtype) -> "Tolerances":
        """For weights and products in `dtype`.

        Measured rounding on the embedded model: 4e-7 nats and 1e-6 of the gradient in float32; on toy models in
        bfloat16, 0.02 nats and 0.02 of the gradient.
        """
        if dtype.itemsize < 4:
            return cls(logprob=0.3, gradient=0.2, kl=0.02)
        if dtype.itemsize > 4:  # some parts of a model stay in float32
            return cls(logprob=1e-5, gradient=1e-4, kl=1e-10)
        return cls(logprob=1e-4, gradient=1e-3, kl=1e-8)
