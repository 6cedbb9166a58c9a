"""Experience for policy-gradient algorithms, without and with a critic: sample, score, select, estimate advantages."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.distributed import device_of
from winnow.experience.batching import Experience
from winnow.experience.collect import Collector
from winnow.experience.evidence import Evidence
from winnow.experience.left_out import Site, faults_of, first_of, left_out, sampled_faults, without
from winnow.experience.metrics import Clock, gradient_mass_metrics, mean_entropy, rollout_metrics, sample_records
from winnow.experience.scoring import ByRow, Scored, Scorer, score_sequences
from winnow.experience.token_choice import choice_metrics, chosen_tokens, of_chosen
from winnow.finite import finite_rows
from winnow.models.policy import Critic
from winnow.models.sharding import is_sharded
from winnow.objectives import KL, PolicyObjective
from winnow.ops.ratio import token
from winnow.ops.value import explained_variance
from winnow.rule import applied
from winnow.types import Rollouts, Row, SampleFacts


def corrected_advantages(
    algorithm: PolicyGradient | ActorCritic, advantages: Mapping[int, Float[Tensor, " _"]], scored: Scored
) -> tuple[ByRow, dict[str, float]]:
    """The (S,) advantages of rows times each token's correction weight, and the metrics of the weights.

    The weight is a function of the ratio of the trainer's probability to the sampler's, both at the weights that
    sampled. It has no gradient. It may multiply the advantage, rather than the surrogate, because every clipping rule
    is homogeneous in the advantage.
    """
    if not algorithm.uses_correction or not advantages:
        return advantages, {}
    found, ratios, weights = {}, [], []
    for i, advantage in advantages.items():
        response = torch.arange(len(advantage)) >= scored.sequences[i].prompt_length
        ratio = token(scored.old[i][None], scored.sampled[i][None], response[None])[0]
        more = {"response": response[None], "advantage": advantage[None]}
        weight = applied("correction", algorithm.correction, ratio[None], like=ratio[None], **more)[0]
        found[i] = advantage * weight
        ratios.append(ratio[response])
        weights.append(weight[response])
    ratio, weight = torch.cat(ratios), torch.cat(weights)
    return found, {
        "train/correction/mean": float(weight.mean()),
        "train/correction/changed_frac": float((weight != ratio).float().mean()),
    }


@dataclass(frozen=True, slots=True)
class PolicyGradientExperience:
    """Experience of RAFT, RAFT++, Reinforce, Reinforce-Rej and GRPO: one advantage per response.

    `updates` is the number of optimiser steps per iteration.
    """

    collector: Collector
    scorer: Scorer
    algorithm: PolicyGradient
    updates: int

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        objective = self.algorithm.objective
        entropy = _entropy_coefficient(objective, rollouts)
        faults, facts = sampled_faults(rollouts), rollouts.facts
        selected = without(_selected(self.algorithm, rollouts, facts), faults, rollouts)
        in_batch = without(_in_batch(self.algorithm, rollouts, selected), faults, rollouts)
        live = _numbers(rollouts.rows(self._moving(rollouts, facts, selected, in_batch)))
        with clock.of("score"):
            scored = self.scorer.for_objective(objective, self.needs_old, rollouts, iteration, live)
        penalty = kl_of_responses(objective.kl_in_reward, scored, rollouts)
        advantage = self.algorithm.advantages(rollouts.rewards, penalty, selected, facts)
        flat = rollouts.rows(advantage).tolist()
        rows = _numbers(rollouts.rows(in_batch))
        tokens = {i: on_response_tokens(scored.sequences[i], flat[i]) for i in rows}
        penalties = () if penalty is None else enumerate(rollouts.rows(penalty))
        healthy = [i for i in live if i not in scored.faults]
        corrected, corrections = corrected_advantages(self.algorithm, {i: tokens[i] for i in healthy}, scored)
        tokens |= corrected
        faults = first_of(scored.faults, faults_of([*tokens.items(), *penalties], Site.ADVANTAGE))
        selected, in_batch = without(selected, faults, rollouts), without(in_batch, faults, rollouts)
        rows = _numbers(rollouts.rows(in_batch))
        chosen = chosen_tokens(self.algorithm, {i: tokens[i] for i in rows}, scored, rollouts)
        tokens = of_chosen(tokens, chosen)
        kept = {i: tokens[i] for i in rows}
        found = {i: _row(objective, scored, i, tokens.get(i), self.scorer.exact) for i in {*rows, *faults}}
        return Experience(
            items=[found[i] for i in rows],
            zero_gradient=[not tokens[i].any() and not objective.has_gradient_without_advantage for i in rows],
            records=sample_records(rollouts, iteration, selected, advantage),
            metrics=_metrics(self.algorithm, rollouts, scored, selected, advantage[in_batch], kept)
            | corrections
            | choice_metrics(chosen, scored)
            | entropy,
            left_out=left_out(faults, found, rollouts),
            evidence=Evidence(rollouts, scored.old, scored.reference, tuple((i,) for i in rows), chosen),
        )

    @property
    def needs_old(self) -> bool:
        """Whether old log-probabilities are scored before the first update.

        If an iteration has a single update, that update's own forward is of the policy that sampled and gives them.
        From an exact sampler they come without a forward, and are then used in any case.
        """
        given_by_the_update = self.updates == 1 and not self.scorer.exact
        return self.algorithm.uses_correction or (self.algorithm.objective.uses_old and not given_by_the_update)

    def _moving(
        self, rollouts: Rollouts, facts: SampleFacts, selected: Bool[Tensor, "p g"], in_batch: Bool[Tensor, "p g"]
    ) -> Bool[Tensor, "p g"]:
        """The rows of the batch that will be forwarded, as far as is known before a KL penalty shapes the reward."""
        if self.algorithm.objective.kl_in_reward is not None or self.algorithm.objective.has_gradient_without_advantage:
            return in_batch
        return in_batch & (self.algorithm.advantages(rollouts.rewards, None, selected, facts) != 0)


def _entropy_coefficient(objective: PolicyObjective, rollouts: Rollouts) -> dict[str, float]:
    """The entropy coefficient of the iteration as a metric, if it moves: it follows from the iteration's samples."""
    if (adaptive := objective.adaptive_entropy) is None:
        return {}
    adaptive.begin(mean_entropy(rollouts))
    return {"train/entropy_coef": adaptive.applied}


def _selected(algorithm: PolicyGradient | ActorCritic, rollouts: Rollouts, facts: SampleFacts) -> Bool[Tensor, "p g"]:
    """The samples that collector and algorithm keep. One whose reward is not finite is never the best.

    The algorithm decides on all drawn samples of a prompt, those that the collector has set aside included.
    """
    rewards = rollouts.rewards.masked_fill(~rollouts.rewards.isfinite(), -torch.inf)
    selected = torch.zeros_like(rollouts.correct)
    for part in rollouts.by_size():
        selected[part] = algorithm.selected(rewards[part], facts.at(part))
    return selected & rollouts.kept


def _in_batch(
    algorithm: PolicyGradient | ActorCritic, rollouts: Rollouts, selected: Bool[Tensor, "p g"]
) -> Bool[Tensor, "p g"]:
    """The samples that are in the batch: those selected, or all that the collector passes on."""
    return rollouts.kept if algorithm.rejected == "zero" else selected


def _numbers(rows: Bool[Tensor, " n"]) -> list[int]:
    return rows.nonzero().flatten().tolist()


def kl_of_responses(kl: KL | None, scored: Scored, rollouts: Rollouts) -> Float[Tensor, "p g"] | None:
    """β · KL of each whole response, the penalty that `algo.kl.place=reward` subtracts from its reward; else None."""
    if kl is None:
        return None
    totals = [float(kl(scored.old[i], scored.reference[i]).sum()) for i in range(len(scored.sequences))]
    return kl.coef * rollouts.matrix(torch.tensor(totals))


def on_response_tokens(sequence: Row, advantage: float) -> Float[Tensor, " s"]:
    """`advantage` at every response token, 0 on the prompt."""
    per_token = torch.zeros(len(sequence.token_ids))
    per_token[sequence.prompt_length :] = advantage
    return per_token


def _row(objective: PolicyObjective, scored: Scored, i: int, advantage: Float[Tensor, " _"] | None, exact: bool) -> Row:
    """Row `i` with the log-probabilities that `objective` reads, and no others; an exact sampler's are the old ones."""
    return replace(
        scored.sequences[i],
        advantage=advantage,
        old_logprobs=scored.old.get(i) if objective.uses_old else None,
        sampler_logprobs=scored.sampled[i] if objective.uses_sampled and not exact else None,
        ref_logprobs=scored.reference.get(i) if objective.kl_in_loss is not None else None,
    )


def _metrics(
    algorithm: PolicyGradient | ActorCritic,
    rollouts: Rollouts,
    scored: Scored,
    selected: Bool[Tensor, "p g"],
    advantages: Float[Tensor, " n"],
    tokens: ByRow,
) -> dict[str, float]:
    """All metrics but the correction's and the critic's.

    `advantages` are those of the batch before the correction; `tokens` holds those after it, per token, by row.
    """
    other_terms = algorithm.objective.has_gradient_without_advantage
    mass = gradient_mass_metrics(rollouts, selected, tokens, algorithm.aggregate, other_terms)
    return rollout_metrics(rollouts, selected) | scored.metrics | _advantage_metrics(advantages) | mass


def _advantage_metrics(advantages: Float[Tensor, " n"]) -> dict[str, float]:
    if not len(advantages):  # nothing was kept
        return {}
    return {
        "train/adv/mean": float(advantages.mean()),
        "train/adv/std": float(advantages.std(correction=0)),
        "train/adv/abs_max": float(advantages.abs().max()),
    }


@dataclass(frozen=True, slots=True)
class ActorCriticExperience:
    """Experience of PPO: an advantage for each token by GAE on a critic's values."""

    collector: Collector
    scorer: Scorer
    critic: Critic
    algorithm: ActorCritic

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        objective = self.algorithm.objective
        entropy = _entropy_coefficient(objective, rollouts)
        faults, facts = sampled_faults(rollouts), rollouts.facts
        selected = without(_selected(self.algorithm, rollouts, facts), faults, rollouts)
        in_batch = without(_in_batch(self.algorithm, rollouts, selected), faults, rollouts)
        rows = _numbers(rollouts.rows(in_batch))
        with clock.of("score"):
            scored = self.scorer.for_objective(
                objective, objective.uses_old or self.algorithm.uses_correction, rollouts, iteration, rows
            )
            # All rows, kept or not, because advantages are whitened over the whole iteration.
            device = device_of(self.critic)
            values = score_sequences(self.critic, scored.sequences, self.scorer.budget, device, is_sharded(self.critic))
        response = _stack([on_response_tokens(sequence, 1.0) for sequence in scored.sequences]) > 0
        rewards, penalty = _token_rewards(rollouts.rows(rollouts.rewards), scored, objective.kl_in_reward, response)
        faults = first_of(scored.faults, faults_of(enumerate(values), Site.VALUE))
        # A row whose reward or value is not finite is no part of the whitening. One whose sampler's numbers are not
        # finite is, as a rejected row would be.
        usable = finite_rows(rewards, penalty, _stack(values)).unsqueeze(1)
        counted, stacked = response & usable, torch.where(usable, _stack(values), 0.0)
        rewards, penalty = (None if of is None else torch.where(usable, of, 0.0) for of in (rewards, penalty))
        assert rewards is not None
        advantages, returns = self.algorithm.per_token(rewards, penalty, stacked, counted)
        explained = explained_variance(stacked, returns, counted) if counted.any() else 0.0
        advantages = torch.where(rollouts.rows(selected).unsqueeze(1), advantages, 0.0)
        lengths = [len(sequence.token_ids) for sequence in scored.sequences]
        healthy = {i: advantages[i, : lengths[i]] for i in rows if i not in faults}
        tokens, corrections = corrected_advantages(self.algorithm, healthy, scored)
        results = [*tokens.items(), *((i, returns[i, : lengths[i]]) for i in healthy)]
        unusable = dict.fromkeys(_numbers(~usable.squeeze(1)), Site.ADVANTAGE)
        faults = first_of(faults, unusable, faults_of(results, Site.ADVANTAGE))
        selected, in_batch = without(selected, faults, rollouts), without(in_batch, faults, rollouts)
        rows = _numbers(rollouts.rows(in_batch))
        chosen = chosen_tokens(self.algorithm, {i: tokens[i] for i in rows}, scored, rollouts)
        tokens = of_chosen(tokens, chosen)
        found = {}
        for i in {*rows, *faults}:
            plain = _row(objective, scored, i, tokens.get(i), self.scorer.exact)
            found[i] = replace(plain, values=values[i], returns=returns[i, : lengths[i]])
        kept, mask = {i: tokens[i] for i in rows}, counted & rollouts.rows(in_batch).unsqueeze(1)
        return Experience(
            items=[found[i] for i in rows],
            zero_gradient=[False] * len(rows),  # the critic always has something to learn
            records=sample_records(rollouts, iteration, selected, None),
            metrics=_metrics(self.algorithm, rollouts, scored, selected, advantages[mask], kept)
            | corrections
            | choice_metrics(chosen, scored)
            | entropy
            | {"train/value/explained_var": explained},
            left_out=left_out(faults, found, rollouts),
            evidence=Evidence(rollouts, scored.old, scored.reference, tuple((i,) for i in rows), chosen),
        )


def _token_rewards(
    rewards: Float[Tensor, " n"], scored: Scored, kl: KL | None, response: Bool[Tensor, "n s"]
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n s"] | None]:
    """Rewards and penalties per token for GAE: the verdict's at the last token of a response, and β · KL of each."""
    found = torch.zeros(response.shape)
    penalty = None if kl is None else torch.zeros(response.shape)
    for i, sequence in enumerate(scored.sequences):
        length = len(sequence.token_ids)
        found[i, length - 1] = rewards[i]
        if kl is not None and penalty is not None:
            penalty[i, :length] = kl.coef * kl(scored.old[i], scored.reference[i])
    return found, penalty


def _stack(rows: list[Float[Tensor, " _"]]) -> Float[Tensor, "n s"]:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
