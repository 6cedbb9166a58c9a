"""What rows have drawn so far."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.types import Completion, Finish


@dataclass(frozen=True, slots=True)
class Record:
    """N rows of at most T draws; column T takes what rows draw after their end, and is never read."""

    tokens: Int[Tensor, "n t1"]
    logprobs: Float[Tensor, "n t1"]
    entropies: Float[Tensor, "n t1"]

    @classmethod
    def empty(cls, rows: int, columns: int, like: Float[Tensor, "..."]) -> "Record":
        """On the device and in the dtype of `like`."""
        shape = (rows, columns + 1)
        return cls(like.new_zeros(shape, dtype=torch.long), like.new_zeros(shape), like.new_zeros(shape))

    def write(self, row: Tensor, column: Tensor, token: Tensor, logprob: Tensor, entropy: Tensor) -> None:
        self.tokens[row, column] = token
        self.logprobs[row, column] = logprob
        self.entropies[row, column] = entropy

    def completions(
        self, rows: Int[Tensor, " k"], lengths: Int[Tensor, " k"], by_eos: Bool[Tensor, " k"]
    ) -> list[Completion]:
        """Of rows that have ended: their first `lengths` draws."""
        tokens, logprobs, entropies = self.tokens[rows].tolist(), self.logprobs[rows].cpu(), self.entropies[rows].cpu()
        return [
            Completion(
                tuple(tokens[n][:cut]),
                logprobs[n, :cut].clone(),  # a view would keep, and pickle, the whole matrix
                entropies[n, :cut].clone(),
                Finish.EOS if eos else Finish.LENGTH,
            )
            for n, (cut, eos) in enumerate(zip(lengths.tolist(), by_eos.tolist(), strict=True))
        ]
