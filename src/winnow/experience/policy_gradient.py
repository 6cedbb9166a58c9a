"""Where the sampler is not quite the trainer: a weight on every token's advantage."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.experience.batching import Experience
from winnow.experience.collect import Collector
from winnow.experience.metrics import Clock, gradient_mass_metrics, rollout_metrics, sample_records
from winnow.experience.scoring import ByRow, Scored, Scorer, TokenSequence, score_sequences
from winnow.models.policy import Critic
from winnow.objectives import KL
from winnow.ops.advantage import whiten_tokens
from winnow.ops.ratio import token
from winnow.ops.value import explained_variance
from winnow.types import Row


def corrected_advantages(
    algorithm: PolicyGradient | ActorCritic, advantages: Mapping[int, Float[Tensor, " _"]], scored: Scored
) -> tuple[ByRow, dict[str, float]]:
    """The (S,) advantages of rows, each token's times its weight, and what is logged of the weights."""
    if not algorithm.uses_correction or not advantages:
        return advantages, {}
    found, ratios, weights = {}, [], []
    for i, advantage in advantages.items():
        response = torch.arange(len(advantage)) >= scored.sequences[i].prompt_length
        ratio = token(scored.old[i][None], scored.sampled[i][None], response[None])[0]
        weight = algorithm.correction(ratio)
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
    """Sample, score, select, weigh: the order of the paper."""

    collector: Collector
    scorer: Scorer
    algorithm: PolicyGradient
    updates: int
    """Optimiser steps an iteration."""

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        objective = self.algorithm.objective
        selected = self.algorithm.select(rollouts.rewards, rollouts.correct)
        in_batch = selected | (self.algorithm.rejected == "zero")
        rows = in_batch.flatten().nonzero().flatten().tolist()
        live = self._moving(rollouts.rewards, selected, in_batch).flatten().nonzero().flatten().tolist()
        with clock.of("score"):
            scored = self.scorer.for_objective(objective, self.needs_old, rollouts, iteration, live)
        shaped = rollouts.rewards - kl_of_responses(objective.kl_in_reward, scored, rollouts.rewards)
        advantage = self.algorithm.advantages(shaped, selected)
        flat = advantage.flatten().tolist()
        tokens = {i: on_response_tokens(scored.sequences[i], flat[i]) for i in rows}
        weighed, corrections = corrected_advantages(self.algorithm, {i: tokens[i] for i in live}, scored)
        tokens |= weighed
        return Experience(
            items=[
                Row(
                    *scored.sequences[i],
                    advantage=tokens[i],
                    old_logprobs=scored.old.get(i) if objective.uses_ratio else None,
                    ref_logprobs=scored.reference.get(i) if objective.kl_in_loss is not None else None,
                )
                for i in rows
            ],
            zero_gradient=[not tokens[i].any() and not objective.has_gradient_without_advantage for i in rows],
            records=sample_records(rollouts, iteration, selected, advantage),
            metrics=rollout_metrics(rollouts, selected)
            | scored.metrics
            | advantage_metrics(advantage[in_batch])
            | gradient_mass_metrics(
                rollouts, selected, tokens, self.algorithm.aggregate, objective.has_gradient_without_advantage
            )
            | corrections,
        )

    @property
    def needs_old(self) -> bool:
        """In an iteration of one update its own forward is of the policy that sampled; an exact sampler's numbers cost nothing."""
        once = self.updates == 1 and not self.scorer.exact
        return self.algorithm.uses_correction or (self.algorithm.objective.uses_ratio and not once)

    def _moving(
        self, rewards: Float[Tensor, "p g"], selected: Bool[Tensor, "p g"], in_batch: Bool[Tensor, "p g"]
    ) -> Bool[Tensor, "p g"]:
        """Rows that will be forwarded, as far as that is known before a KL term shapes their reward."""
        if self.algorithm.objective.kl_in_reward is not None or self.algorithm.objective.has_gradient_without_advantage:
            return in_batch
        return in_batch & (self.algorithm.advantages(rewards, selected) != 0)


def kl_of_responses(kl: KL | None, scored: Scored, rewards: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """β times the estimated KL of each whole response: what `algo.kl.place=reward` takes off its reward."""
    if kl is None:
        return torch.zeros_like(rewards)
    totals = [float(kl(scored.old[i], scored.reference[i]).sum()) for i in range(rewards.numel())]
    return kl.coef * torch.tensor(totals).view_as(rewards)


def on_response_tokens(sequence: TokenSequence, advantage: float) -> Float[Tensor, " s"]:
    """The same at every response token, 0 on the prompt."""
    per_token = torch.zeros(len(sequence.token_ids))
    per_token[sequence.prompt_length :] = advantage
    return per_token


def advantage_metrics(advantages: Float[Tensor, " n"]) -> dict[str, float]:
    """Over whatever was kept; nothing if nothing was."""
    if not len(advantages):
        return {}
    return {
        "train/adv/mean": float(advantages.mean()),
        "train/adv/std": float(advantages.std(correction=0)),
        "train/adv/abs_max": float(advantages.abs().max()),
    }


@dataclass(frozen=True, slots=True)
class ActorCriticExperience:
    """Sample, score, value, credit."""

    collector: Collector
    scorer: Scorer
    critic: Critic
    algorithm: ActorCritic

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        objective = self.algorithm.objective
        selected = self.algorithm.select(rollouts.rewards, rollouts.correct)
        in_batch = (selected | (self.algorithm.rejected == "zero")).flatten()
        rows = in_batch.nonzero().flatten().tolist()
        with clock.of("score"):
            scored = self.scorer.for_objective(
                objective, objective.uses_ratio or self.algorithm.uses_correction, rollouts, iteration, rows
            )
            # All rows, kept or not: whitening is over the whole iteration.
            values = self._values(scored.sequences)
        response = _stack([_response_mask(sequence) for sequence in scored.sequences]) > 0
        rewards = _token_rewards(rollouts.rewards.flatten(), scored, objective.kl_in_reward, response)
        advantages, returns = self.algorithm.advantage(rewards, _stack(values), response)
        explained = explained_variance(_stack(values), returns, response)
        if self.algorithm.whiten:
            advantages = whiten_tokens(advantages, response)
        advantages = advantages * selected.flatten().unsqueeze(1)
        lengths = [len(sequence.token_ids) for sequence in scored.sequences]
        tokens, corrections = corrected_advantages(
            self.algorithm, {i: advantages[i, : lengths[i]] for i in rows}, scored
        )
        return Experience(
            items=[
                Row(
                    *scored.sequences[i],
                    advantage=tokens[i],
                    old_logprobs=scored.old[i] if objective.uses_ratio else None,
                    ref_logprobs=scored.reference[i] if objective.kl_in_loss is not None else None,
                    values=values[i],
                    returns=returns[i, : lengths[i]],
                )
                for i in rows
            ],
            zero_gradient=[False] * len(rows),  # the critic always has something to learn
            records=sample_records(rollouts, iteration, selected, None),
            metrics=rollout_metrics(rollouts, selected)
            | scored.metrics
            | advantage_metrics(advantages[response & in_batch.unsqueeze(1)])
            | gradient_mass_metrics(
                rollouts, selected, tokens, self.algorithm.aggregate, objective.has_gradient_without_advantage
            )
            | corrections
            | {"train/value/explained_var": explained},
        )

    def _values(self, sequences: list[TokenSequence]) -> list[Float[Tensor, " _"]]:
        device = next(self.critic.parameters()).device
        return score_sequences(self.critic, sequences, self.scorer.budget, device)


def _token_rewards(
    rewards: Float[Tensor, " n"], scored: Scored, kl: KL | None, response: Bool[Tensor, "n s"]
) -> Float[Tensor, "n s"]:
    """The verdict's reward on the last token of each response, less the KL of each token where it shapes the reward."""
    found = torch.zeros(response.shape)
    for i, sequence in enumerate(scored.sequences):
        length = len(sequence.token_ids)
        found[i, length - 1] = rewards[i]
        if kl is not None:
            found[i, :length] -= kl.coef * kl(scored.old[i], scored.reference[i])
    return found


def _response_mask(sequence: TokenSequence) -> Float[Tensor, " s"]:
    marks = torch.zeros(len(sequence.token_ids))
    marks[sequence.prompt_length :] = 1
    return marks


def _stack(rows: list[Float[Tensor, " _"]]) -> Float[Tensor, "n s"]:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
