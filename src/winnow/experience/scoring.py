"""Prompt and response as one sequence of tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from winnow import distributed
from winnow.errors import Diverged
from winnow.experience.batching import TokenBudget
from winnow.models.policy import Policy, Reference
from winnow.objectives import PolicyObjective
from winnow.ops.kl import k3
from winnow.packed import Packed, pack
from winnow.rng import permutation, seed_of
from winnow.types import Rollouts


class TokenSequence(NamedTuple):
    token_ids: tuple[int, ...]
    prompt_length: int

    @property
    def response_length(self) -> int:
        return len(self.token_ids) - self.prompt_length


def sequences_of(rollouts: Rollouts) -> list[TokenSequence]:
    """All N rows, prompt by prompt."""
    return [
        TokenSequence(prompt.token_ids + completion.token_ids, len(prompt.token_ids))
        for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
        for completion in group
    ]


Forward = Callable[[Packed], Float[Tensor, "b s"]]
"""Rows -> a number for each response token, zero elsewhere."""


def score_sequences(
    forward: Forward, sequences: Sequence[TokenSequence], budget: TokenBudget, device: torch.device
) -> list[Float[Tensor, " _"]]:
    """`forward` over every sequence: (S,) on the CPU for each, zero on the prompt.

    Ranks share the work; rows of a prompt that stand together share its tokens.
    """
    mine = distributed.contiguous_shard(sequences)
    scored: list[Float[Tensor, " _"]] = [torch.empty(0)] * len(mine)
    with torch.no_grad():
        for places in budget.cut([(sequence,) for sequence in mine]):
            numbers = forward(pack([mine[i] for i in places]).to(device)).cpu()
            for row, i in zip(numbers, places, strict=True):
                scored[i] = row[: len(mine[i].token_ids)].clone()
    return distributed.gather_contiguous(scored)


ByRow = Mapping[int, Float[Tensor, " _"]]
"""Row number to a (S,) tensor that is 0 on the prompt."""
CHECKED_ROWS = 8
"""Rows an iteration on which the promise of an exact sampler is checked."""
ReferenceKind = Literal["initial", "previous"]


@dataclass(frozen=True, slots=True)
class Scored:
    """`old` and `reference` hold the rows that were asked for, `sampled` the sampler's own numbers of every row.

    `metrics` are `train/kl_ref`, `rollout/logp_diff/*` and `rollout/mismatch_kl`.
    """

    sequences: list[TokenSequence]
    sampled: Sequence[Float[Tensor, " _"]]
    old: ByRow
    reference: ByRow
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scorer:
    """`exact` says that the sampler's log-probabilities are the training forward's up to rounding; `initial` is frozen.

    Every iteration `kl_rows` rows by name, whatever is kept, are scored under the initial policy, for the KL that compares
    across algorithms, and under the policy, for the gap to the sampler; of an exact sampler `CHECKED` rows are enough.
    `max_mismatch_kl` bounds the gap, in nats a token: samples that are not of the policy would be learnt from as if they were.
    """

    policy: Policy
    initial: Reference | None
    exact: bool
    budget: TokenBudget
    kl_rows: int
    seed: int
    max_mismatch_kl: float

    def __call__(
        self,
        rollouts: Rollouts,
        iteration: int,
        old: Sequence[int],
        reference: Sequence[int],
        kind: ReferenceKind | None,
    ) -> Scored:
        """Score rows `old` under the policy that sampled, and rows `reference` under the reference policy `kind`.

        Raises:
            Diverged: the sampler is further from the policy than `max_mismatch_kl`.
        """
        sequences = sequences_of(rollouts)
        logged = permutation(seed_of(self.seed, "kl rows", iteration), len(sequences))[: self.kl_rows]
        sampled = _sampler_logprobs(rollouts)
        wanted = {*old, *(reference if kind == "previous" else ())}
        checked = logged[:CHECKED_ROWS] if self.exact else logged
        forwarded = self._scored(self.policy, sequences, sorted({*checked, *(() if self.exact else wanted)}))
        olds = {i: sampled[i] if self.exact else forwarded[i] for i in wanted}
        initial = self._initially(sequences, sorted({*logged, *(reference if kind == "initial" else ())}))
        metrics = _logprob_gap(sampled, forwarded, sequences)
        if logged:
            metrics["rollout/mismatch_kl"] = mismatch = _mean_kl(sampled, forwarded, sequences, checked)
            self._require_near(mismatch, iteration)
            metrics["train/kl_ref"] = _mean_kl(sampled if self.exact else forwarded, initial, sequences, logged)
        return Scored(sequences, sampled, olds, olds if kind == "previous" else initial, metrics)

    def for_objective(
        self, objective: PolicyObjective, needs_old: bool, rollouts: Rollouts, iteration: int, in_batch: Sequence[int]
    ) -> Scored:
        """What `objective` reads: of the rows in the batch, or of all rows where a KL term shapes the reward.

        `needs_old` says whether the rows' log-probabilities under the policy that sampled are read.
        """
        every = range(rollouts.rewards.numel())
        old = in_batch if needs_old else ()
        if objective.kl is None:
            return self(rollouts, iteration, old, (), None)
        if objective.kl_in_reward is not None:
            return self(rollouts, iteration, every, every, objective.kl.reference)
        return self(rollouts, iteration, old, in_batch, objective.kl.reference)

    def _require_near(self, mismatch: float, iteration: int) -> None:
        if not mismatch <= self.max_mismatch_kl:  # so that NaN does not pass
            raise Diverged(
                f"iteration {iteration + 1}: samples are {mismatch:.2g} nats a token from the policy, above "
                f"rollout.max_mismatch_kl={self.max_mismatch_kl:g}: the engine has stale weights, or another temperature "
                "or precision; where that is meant, raise the bound"
            )

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
        scored = score_sequences(
            lambda packed: policy(packed).logprobs, [sequences[i] for i in rows], self.budget, device
        )
        return dict(zip(rows, scored, strict=True))


def _sampler_logprobs(rollouts: Rollouts) -> list[Float[Tensor, " _"]]:
    return [
        torch.cat([completion.logprobs.new_zeros(len(prompt.token_ids)), completion.logprobs])
        for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
        for completion in group
    ]


def _logprob_gap(
    sampled: Sequence[Float[Tensor, " _"]], forwarded: ByRow, sequences: Sequence[TokenSequence]
) -> dict[str, float]:
    """How far the sampler's log-probabilities are from the training forward's."""
    if not forwarded:
        return {}
    gaps = torch.cat([(sampled[i] - logprobs)[sequences[i].prompt_length :].abs() for i, logprobs in forwarded.items()])
    return {"rollout/logp_diff/mean": float(gaps.mean()), "rollout/logp_diff/max": float(gaps.max())}


def _mean_kl(
    p: ByRow | Sequence[Float[Tensor, " _"]], q: ByRow, sequences: Sequence[TokenSequence], rows: Sequence[int]
) -> float:
    """KL(p ‖ q), k3 in nats a token, over the sampled tokens of `rows`."""
    # Prompt positions are 0 under both and add nothing to the sum.
    total = sum(float(k3((p[i] - q[i]).double()).sum()) for i in rows)
    return total / sum(sequences[i].response_length for i in rows)
