"""Log-probabilities of rollouts under the policy that drew them, and under the initial one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.experience.score import Forward, score
from winnow.models.policy import Policy
from winnow.rng import permutation, seed_of
from winnow.types import Rollouts

Sequence_ = tuple[tuple[int, ...], int]


def sequences_of(rollouts: Rollouts) -> list[Sequence_]:
    """(prompt and response ids, prompt length) of all N rows, prompt by prompt."""
    return [
        (prompt.token_ids + completion.token_ids, len(prompt.token_ids))
        for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
        for completion in group
    ]


def forward_of(policy: Policy) -> Forward:
    def forward(tokens: Int[Tensor, "b s"], start: int) -> Float[Tensor, "b s"]:
        return policy(tokens, start).logprobs

    return forward


@dataclass(frozen=True, slots=True)
class Scorer:
    """`exact` says that the sampler's log-probabilities are the training forward's up to rounding; `initial` is frozen.

    `kl_rows` rows an iteration, kept or not, are scored under the initial policy for `train/kl_ref`.
    """

    policy: Policy
    initial: Policy | None
    exact: bool
    token_budget: int
    kl_rows: int
    seed: int

    def old(self, rollouts: Rollouts) -> list[Float[Tensor, " _"]]:
        """Under the policy that sampled, for all N rows."""
        if not self.exact:
            return self.scored(self.policy, sequences_of(rollouts))
        return [
            torch.cat([completion.logprobs.new_zeros(len(prompt.token_ids)), completion.logprobs])
            for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
            for completion in group
        ]

    def initially(self, sequences: Sequence[Sequence_], rows: Sequence[int]) -> dict[int, Float[Tensor, " _"]]:
        """Under the initial policy, for `rows` of `sequences` only."""
        if not rows:
            return {}
        if self.initial is None:
            raise RuntimeError("no initial policy was kept, and one is needed")
        # It is nobody's submodule, so nobody else moves it.
        self.initial.to(next(self.policy.parameters()).device)
        scored = self.scored(self.initial, [sequences[i] for i in rows])
        return dict(zip(rows, scored, strict=True))

    def metric_rows(self, iteration: int, count: int) -> list[int]:
        """The rows whose KL to the initial policy is logged: a sample by name, whatever was selected."""
        return permutation(seed_of(self.seed, "kl rows", iteration), count)[: self.kl_rows]

    def scored(self, policy: Policy, sequences: Sequence[Sequence_]) -> list[Float[Tensor, " _"]]:
        device = next(policy.parameters()).device
        return score(forward_of(policy), sequences, self.token_budget, device)
