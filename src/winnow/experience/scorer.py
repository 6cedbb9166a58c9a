"""Log-probabilities of rollouts under the policy that drew them, and under the reference: those needed and no others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.experience.score import Forward, score
from winnow.experience.sequences import TokenSequence, sequences_of
from winnow.models.policy import Policy
from winnow.models.reference import Reference
from winnow.objectives import PolicyObjective
from winnow.ops.kl import k3
from winnow.rng import permutation, seed_of
from winnow.types import Rollouts

ByRow = Mapping[int, Float[Tensor, " _"]]
"""Row number to a (S,) tensor that is 0 on the prompt."""
ReferenceKind = Literal["initial", "previous"]


@dataclass(frozen=True, slots=True)
class Scored:
    """`old` and `reference` hold the rows that were asked for; `metrics` are `train/kl_ref` and `rollout/logp_diff/*`."""

    sequences: list[TokenSequence]
    old: ByRow
    reference: ByRow
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scorer:
    """`exact` says that the sampler's log-probabilities are the training forward's up to rounding; `initial` is frozen.

    Every iteration `kl_rows` rows by name, whatever is kept, are scored under the policy and under the initial one: for
    the gap to the sampler and for the KL that compares across algorithms.
    """

    policy: Policy
    initial: Reference | None
    exact: bool
    token_budget: int
    kl_rows: int
    seed: int

    def __call__(
        self,
        rollouts: Rollouts,
        iteration: int,
        old: Sequence[int],
        reference: Sequence[int],
        kind: ReferenceKind | None,
    ) -> Scored:
        """Score rows `old` under the policy that sampled, and rows `reference` under the reference policy `kind`."""
        sequences = sequences_of(rollouts)
        logged = permutation(seed_of(self.seed, "kl rows", iteration), len(sequences))[: self.kl_rows]
        sampled = _sampled(rollouts)
        wanted = {*old, *(reference if kind == "previous" else ())}
        forwarded = self._scored(self.policy, sequences, sorted({*logged, *(() if self.exact else wanted)}))
        olds = {i: sampled[i] if self.exact else forwarded[i] for i in wanted}
        initial = self._initially(sequences, sorted({*logged, *(reference if kind == "initial" else ())}))
        metrics = _gap(sampled, forwarded, sequences) | _kl(forwarded, initial, sequences, logged)
        return Scored(sequences, olds, olds if kind == "previous" else initial, metrics)

    def for_objective(
        self, objective: PolicyObjective, rollouts: Rollouts, iteration: int, in_batch: Sequence[int]
    ) -> Scored:
        """What `objective` reads: of the rows in the batch, or of all rows where a KL term shapes the reward."""
        every = range(rollouts.rewards.numel())
        if objective.kl is None:
            return self(rollouts, iteration, in_batch if objective.uses_ratio else (), (), None)
        if objective.kl_in_reward is not None:
            return self(rollouts, iteration, every, every, objective.kl.reference)
        return self(rollouts, iteration, in_batch if objective.uses_ratio else (), in_batch, objective.kl.reference)

    def _initially(self, sequences: Sequence[TokenSequence], rows: Sequence[int]) -> ByRow:
        if not rows:
            return {}
        if self.initial is None:
            raise RuntimeError("no initial policy was kept, and one is needed")
        self.initial.to(next(self.policy.parameters()).device)
        return self._scored(self.initial, sequences, rows)

    def _scored(self, policy: Policy | Reference, sequences: Sequence[TokenSequence], rows: Sequence[int]) -> ByRow:
        if not rows:
            return {}
        device = next(self.policy.parameters()).device
        scored = score(_forward_of(policy), [sequences[i] for i in rows], self.token_budget, device)
        return dict(zip(rows, scored, strict=True))


def _forward_of(policy: Policy | Reference) -> Forward:
    def forward(tokens: Int[Tensor, "b s"], start: int) -> Float[Tensor, "b s"]:
        return policy(tokens, start).logprobs

    return forward


def _sampled(rollouts: Rollouts) -> list[Float[Tensor, " _"]]:
    return [
        torch.cat([completion.logprobs.new_zeros(len(prompt.token_ids)), completion.logprobs])
        for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
        for completion in group
    ]


def _gap(
    sampled: Sequence[Float[Tensor, " _"]], forwarded: ByRow, sequences: Sequence[TokenSequence]
) -> dict[str, float]:
    """How far the sampler's log-probabilities are from the training forward's."""
    if not forwarded:
        return {}
    gaps = torch.cat([(sampled[i] - logprobs)[sequences[i].prompt_length :].abs() for i, logprobs in forwarded.items()])
    return {"rollout/logp_diff/mean": float(gaps.mean()), "rollout/logp_diff/max": float(gaps.max())}


def _kl(policy: ByRow, initial: ByRow, sequences: Sequence[TokenSequence], rows: Sequence[int]) -> dict[str, float]:
    """`train/kl_ref`: k3 in nats a token, over the sampled tokens of `rows`."""
    if not rows:
        return {}
    # Prompt positions are 0 under both and add nothing to the sum.
    total = sum(float(k3((policy[i] - initial[i]).double()).sum()) for i in rows)
    return {"train/kl_ref": total / sum(sequences[i].response_length for i in rows)}
