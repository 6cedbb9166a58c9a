"""Experience for log-probability surrogates: who is kept, and what each kept sample weighs."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.algorithm import PolicyGradient
from winnow.experience.clock import Clock
from winnow.experience.collect import Collector
from winnow.experience.correct import corrected
from winnow.experience.experience import Experience
from winnow.experience.rollout_metrics import rollout_metrics, sample_records
from winnow.experience.scorer import Scored, Scorer
from winnow.experience.sequences import TokenSequence
from winnow.experience.signal import signal_metrics
from winnow.objectives import KL
from winnow.types import Row


@dataclass(frozen=True, slots=True)
class Weigher:
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
        tokens = {i: at_response(scored.sequences[i], flat[i]) for i in rows}
        weighed, corrections = corrected(self.algorithm, {i: tokens[i] for i in live}, scored)
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
            inert=[not tokens[i].any() and not objective.moves_without_advantage for i in rows],
            records=sample_records(rollouts, iteration, selected, advantage),
            metrics=rollout_metrics(rollouts, selected)
            | scored.metrics
            | advantage_metrics(advantage[in_batch])
            | signal_metrics(rollouts, selected, tokens, self.algorithm.aggregate, objective.moves_without_advantage)
            | corrections,
        )

    @property
    def needs_old(self) -> bool:
        """In an iteration of one update its own forward is of the policy that sampled; an exact sampler's numbers cost nothing."""
        once = self.updates == 1 and not self.scorer.exact
        return self.algorithm.corrects or (self.algorithm.objective.uses_ratio and not once)

    def _moving(
        self, rewards: Float[Tensor, "p g"], selected: Bool[Tensor, "p g"], in_batch: Bool[Tensor, "p g"]
    ) -> Bool[Tensor, "p g"]:
        """Rows that will be forwarded, as far as that is known before a KL term shapes their reward."""
        if self.algorithm.objective.kl_in_reward is not None or self.algorithm.objective.moves_without_advantage:
            return in_batch
        return in_batch & (self.algorithm.advantages(rewards, selected) != 0)


def kl_of_responses(kl: KL | None, scored: Scored, rewards: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """β times the estimated KL of each whole response: what `algo.kl.place=reward` takes off its reward."""
    if kl is None:
        return torch.zeros_like(rewards)
    totals = [float(kl(scored.old[i], scored.reference[i]).sum()) for i in range(rewards.numel())]
    return kl.coef * torch.tensor(totals).view_as(rewards)


def at_response(sequence: TokenSequence, advantage: float) -> Float[Tensor, " s"]:
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
