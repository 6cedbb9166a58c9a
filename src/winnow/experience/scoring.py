"""Scoring of rollouts: log-probabilities under policy and reference policy, and their mismatch with the sampler's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from winnow import distributed, signals
from winnow.errors import Diverged
from winnow.experience.batching import TokenBudget
from winnow.experience.left_out import Faults, Site, faults_of, first_of, sampled_faults
from winnow.experience.mismatch import Mismatch
from winnow.models.policy import Policy, Reference
from winnow.models.sharding import is_sharded
from winnow.objectives import PolicyObjective, ReferenceKind
from winnow.ops.kl import k3
from winnow.packed import Packed, pack
from winnow.rng import permutation, seed_of
from winnow.types import Completion, Prompt, Rollouts, Row

Forward = Callable[[Packed], Float[Tensor, "b s"]]
"""Packed rows → a number for each response token, 0 elsewhere."""
ByRow = Mapping[int, Float[Tensor, " _"]]
"""Row number (0 … N − 1, prompt by prompt) → an (S,) tensor that is 0 on the prompt."""
CHECKED_ROWS = 8
"""Rows per iteration on which an exact sampler's log-probabilities are checked against the training forward's."""


def sequences_of(rollouts: Rollouts) -> list[Row]:
    """The tokens of all N samples, prompt by prompt, without anything to train on yet."""
    return [
        Row(prompt.token_ids + completion.token_ids, len(prompt.token_ids))
        for prompt, group in zip(rollouts.prompts, rollouts.completions, strict=True)
        for completion in group
    ]


def score_sequences(
    forward: Forward,
    sequences: Sequence[Row],
    budget: TokenBudget,
    device: torch.device,
    together: bool = False,
) -> list[Float[Tensor, " _"]]:
    """`forward` over every sequence: for each an (S,) tensor on the CPU, 0 on the prompt. Ranks share the work.

    `together` is true for a sharded model, of which all ranks have to compute each forward together.
    """
    # Consecutive sequences, so that the samples of a prompt are on one rank and share its tokens.
    mine = distributed.contiguous_shard(sequences)
    scored: list[Float[Tensor, " _"]] = [torch.empty(0)] * len(mine)
    groups = budget.cut([(sequence,) for sequence in mine])
    turns = max(distributed.all_gather(len(groups))) if together else len(groups)
    with torch.no_grad():
        for turn in range(turns):
            signals.check()
            if together:
                distributed.all_gather(None)  # another rank may have left
            if turn >= len(groups):
                forward(pack([min(sequences, key=lambda row: len(row.token_ids))]).to(device))
                continue
            places = groups[turn]
            numbers = forward(pack([mine[i] for i in places]).to(device)).cpu()
            for row, i in zip(numbers, places, strict=True):
                scored[i] = row[: len(mine[i].token_ids)].clone()  # a view would keep the whole matrix
    return distributed.gather_contiguous(scored)


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probabilities of an iteration's samples.

    `sampled` holds the sampler's own, of every row; `old` those under the policy before the iteration's updates, by the
    trainer's forward, and `reference` those under the reference policy, both of the requested rows. `metrics` are
    `train/kl_ref`, `rollout/logp_diff/*`, `rollout/mismatch_kl` and, of samples that were drawn ahead,
    `rollout/staleness_kl`, over rows whose numbers are finite. `faults` are the other rows, by the sampler's numbers,
    the reward, or any of the log-probabilities here.
    """

    sequences: list[Row]
    sampled: Sequence[Float[Tensor, " _"]]
    old: ByRow
    reference: ByRow
    metrics: dict[str, float]
    faults: Faults


@dataclass(frozen=True, slots=True)
class Scorer:
    """Forwards of the policy and of the `kept` reference policy over sampled rows.

    That is the initial policy, or, if it is `synced`, one that follows the policy.

    `exact` says that the sampler's log-probabilities equal the training forward's up to rounding, so that they serve as
    old log-probabilities without a forward.

    In every iteration `kl_rows` rows, drawn by seed and iteration whatever is kept, are scored for the metrics: under
    the kept reference, for a KL that is comparable across algorithms, and under the policy, for the mismatch with the
    sampler. For an exact sampler `CHECKED_ROWS` rows of them are enough for the latter. `max_mismatch_kl` bounds the
    mismatch in nats per token: training treats all samples as the policy's own.
    """

    policy: Policy
    kept: Reference | None
    exact: bool
    budget: TokenBudget
    kl_rows: int
    seed: int
    max_mismatch_kl: float
    ahead: bool = False
    """Whether samples may be of an earlier policy, which drew them ahead of their training."""
    synced: bool = False
    agreed: list[int] = field(default_factory=list)
    """The iterations of this process, counted from 1, in which sampler and policy agreed."""

    def __call__(
        self,
        rollouts: Rollouts,
        iteration: int,
        old: Sequence[int],
        reference: Sequence[int],
        kind: ReferenceKind | None,
    ) -> Scored:
        """Score the rows `old` under the policy that sampled and the rows `reference` under reference policy `kind`.

        This has to run before the iteration's first update: the policy then still is the one that sampled.

        Raises:
            Diverged: the sampler's distribution is further from the policy's than `max_mismatch_kl`.
        """
        sequences = sequences_of(rollouts)
        logged = permutation(seed_of(self.seed, "kl rows", iteration), len(sequences))[: self.kl_rows]
        completions = zip(sequences, rollouts.all_completions, strict=True)
        sampled = [pad(completion.logprobs, (row.prompt_length, 0)) for row, completion in completions]
        wanted = {*old, *(reference if kind == "previous" else ())}
        checked = logged[:CHECKED_ROWS] if self.exact else logged
        forwarded = self._scored(self.policy, sequences, sorted({*checked, *(() if self.exact else wanted)}))
        olds = {i: sampled[i] if self.exact else forwarded[i] for i in wanted}
        kept = self._kept_scores(sequences, sorted({*logged, *(reference if kind != "previous" else ())}))
        faults = first_of(
            sampled_faults(rollouts), faults_of(forwarded.items(), Site.OLD), faults_of(kept.items(), Site.REFERENCE)
        )
        compared = [i for i in checked if i not in faults]
        if self.ahead and rollouts.policy_version != iteration:
            metrics = dict(rollouts.sampler)  # of `check_sampler`, when they were drawn
            if compared:
                metrics["rollout/staleness_kl"] = _mean_kl(sampled, forwarded, sequences, compared)
        else:
            metrics = self._mismatch(sequences, sampled, forwarded, compared, faults, iteration)
        if counted := [i for i in logged if i not in faults]:
            metrics["train/kl_ref"] = _mean_kl(sampled if self.exact else forwarded, kept, sequences, counted)
        return Scored(sequences, sampled, olds, olds if kind == "previous" else kept, metrics, faults)

    def check_sampler(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]], iteration: int
    ) -> dict[str, float]:
        """Figures of the distance between the sampler and the policy, on a few samples that it has just drawn.

        Raises:
            Diverged: it is more than `max_mismatch_kl`.
        """
        pairs = [(prompt, each) for prompt, group in zip(prompts, completions, strict=True) for each in group]
        chosen = permutation(seed_of(self.seed, "checked rows", iteration), len(pairs))[:CHECKED_ROWS]
        rows = [Row(p.token_ids + c.token_ids, len(p.token_ids)) for p, c in (pairs[i] for i in chosen)]
        sampled = [pad(pairs[i][1].logprobs, (len(pairs[i][0].token_ids), 0)) for i in chosen]
        forwarded = self._scored(self.policy, rows, range(len(rows)))
        finite = [i for i in range(len(rows)) if bool((sampled[i] - forwarded[i]).isfinite().all())]
        return self._mismatch(rows, sampled, forwarded, finite, {}, iteration)

    def _mismatch(
        self,
        sequences: Sequence[Row],
        sampled: Sequence[Float[Tensor, " _"]],
        forwarded: ByRow,
        compared: Sequence[int],
        faults: Faults,
        iteration: int,
    ) -> dict[str, float]:
        """`rollout/logp_diff/*` and `rollout/mismatch_kl` of samples of the present policy."""
        metrics = _logprob_gap(sampled, {i: row for i, row in forwarded.items() if i not in faults}, sequences)
        if compared:
            metrics["rollout/mismatch_kl"] = mismatch = _mean_kl(sampled, forwarded, sequences, compared)
            if mismatch <= self.max_mismatch_kl:  # false for NaN, to which finite numbers may overflow
                self.agreed.append(iteration + 1)
            else:
                cause = self._likely_cause(sequences, sampled, forwarded, compared)
                raise Diverged(
                    f"iteration {iteration + 1}: samples are {mismatch:.2g} nats a token from the policy, above "
                    f"rollout.max_mismatch_kl={self.max_mismatch_kl:g}; likely cause: {cause}; if that is intended, "
                    "raise the bound"
                )
        return metrics

    def for_objective(
        self, objective: PolicyObjective, needs_old: bool, rollouts: Rollouts, iteration: int, in_batch: Sequence[int]
    ) -> Scored:
        """Score what `objective` reads: the rows `in_batch`, or all rows if a KL penalty is in the reward.

        `needs_old` says whether log-probabilities under the policy that sampled are read for the rows `in_batch`.
        """
        every = range(len(rollouts.all_completions))
        old = in_batch if needs_old else ()
        if objective.kl is None:
            return self(rollouts, iteration, old, (), None)
        if objective.kl_in_reward is not None:
            return self(rollouts, iteration, every, every, objective.kl.reference)
        return self(rollouts, iteration, old, in_batch, objective.kl.reference)

    def _likely_cause(
        self,
        sequences: Sequence[Row],
        sampled: Sequence[Float[Tensor, " _"]],
        forwarded: ByRow,
        rows: Sequence[int],
    ) -> str:
        """The likely cause of a mismatch in `rows`, for which these are scored again."""

        def responses(scored: ByRow | Sequence[Float[Tensor, " _"]]) -> list[Float[Tensor, " _"]]:
            return [scored[i][sequences[i].prompt_length :] for i in rows]

        usual = self.policy.temperature

        def at_temperature(temperature: float) -> list[Float[Tensor, " _"]]:
            self.policy.temperature = temperature
            try:
                return responses(self._scored(self.policy, sequences, rows))
            finally:
                self.policy.temperature = usual

        lacking = self.kept is None or self.synced
        initial = None if lacking else responses(self._kept_scores(sequences, rows))
        starts = [sequences[i].prompt_length for i in rows]
        return Mismatch(
            sampled=responses(sampled),
            scored=responses(forwarded),
            starts=starts,
            temperature=usual,
            at_temperature=at_temperature,
            initial=initial,
            agreed=self.agreed[-1] if self.agreed else None,
            limit=self.max_mismatch_kl,
        ).cause()

    def _kept_scores(self, sequences: Sequence[Row], rows: Sequence[int]) -> ByRow:
        if not rows:
            return {}
        if self.kept is None:
            raise RuntimeError("no reference policy was kept, but this run needs one")
        self.kept.to(self.policy.device)
        return self._scored(self.kept, sequences, rows)

    def _scored(self, policy: Policy | Reference, sequences: Sequence[Row], rows: Sequence[int]) -> ByRow:
        if not rows:
            return {}
        device = self.policy.device
        scored = score_sequences(
            lambda packed: policy(packed).logprobs,
            [sequences[i] for i in rows],
            self.budget,
            device,
            is_sharded(self.policy),
        )
        return dict(zip(rows, scored, strict=True))


def _logprob_gap(
    sampled: Sequence[Float[Tensor, " _"]], forwarded: ByRow, sequences: Sequence[Row]
) -> dict[str, float]:
    """Mean and maximum absolute difference between the sampler's and the training forward's log-probabilities."""
    if not forwarded:
        return {}
    gaps = torch.cat([(sampled[i] - logprobs)[sequences[i].prompt_length :].abs() for i, logprobs in forwarded.items()])
    return {"rollout/logp_diff/mean": float(gaps.mean()), "rollout/logp_diff/max": float(gaps.max())}


def _mean_kl(
    p: ByRow | Sequence[Float[Tensor, " _"]], q: ByRow, sequences: Sequence[Row], rows: Sequence[int]
) -> float:
    """KL(p ‖ q) by k3, in nats per token, over the sampled tokens of `rows`; p and q are log-probabilities."""
    # Prompt positions are 0 in both and add nothing to the sum.
    total = sum(float(k3((p[i] - q[i]).double()).sum()) for i in rows)
    return total / sum(sequences[i].response_length for i in rows)
