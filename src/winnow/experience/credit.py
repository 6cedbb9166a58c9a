"""Experience for actor-critic: a value and an advantage for every token."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from winnow.algorithm import ActorCritic
from winnow.experience.clock import Clock
from winnow.experience.collect import Collector
from winnow.experience.correct import corrected
from winnow.experience.experience import Experience
from winnow.experience.rollout_metrics import rollout_metrics, sample_records
from winnow.experience.score import score
from winnow.experience.scorer import Scored, Scorer
from winnow.experience.sequences import TokenSequence
from winnow.experience.signal import signal_metrics
from winnow.experience.weigh import advantage_metrics
from winnow.models.critic import Critic
from winnow.objectives import KL
from winnow.ops.advantage import whiten_tokens
from winnow.ops.value import explained_variance
from winnow.types import Row


@dataclass(frozen=True, slots=True)
class Crediter:
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
                objective, objective.uses_ratio or self.algorithm.corrects, rollouts, iteration, rows
            )
            # All rows, kept or not: whitening is over the whole iteration.
            values = self._values(scored.sequences)
        response = _stack([_response(sequence) for sequence in scored.sequences]) > 0
        rewards = _token_rewards(rollouts.rewards.flatten(), scored, objective.kl_in_reward, response)
        advantages, returns = self.algorithm.advantage(rewards, _stack(values), response)
        explained = explained_variance(_stack(values), returns, response)
        if self.algorithm.whiten:
            advantages = whiten_tokens(advantages, response)
        advantages = advantages * selected.flatten().unsqueeze(1)
        lengths = [len(sequence.token_ids) for sequence in scored.sequences]
        tokens, corrections = corrected(self.algorithm, {i: advantages[i, : lengths[i]] for i in rows}, scored)
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
            inert=[False] * len(rows),  # the critic always has something to learn
            records=sample_records(rollouts, iteration, selected, None),
            metrics=rollout_metrics(rollouts, selected)
            | scored.metrics
            | advantage_metrics(advantages[response & in_batch.unsqueeze(1)])
            | signal_metrics(rollouts, selected, tokens, self.algorithm.aggregate, objective.moves_without_advantage)
            | corrections
            | {"train/value/explained_var": explained},
        )

    def _values(self, sequences: list[TokenSequence]) -> list[Float[Tensor, " _"]]:
        device = next(self.critic.parameters()).device
        return score(self.critic, sequences, self.scorer.budget, device)


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


def _response(sequence: TokenSequence) -> Float[Tensor, " s"]:
    marks = torch.zeros(len(sequence.token_ids))
    marks[sequence.prompt_length :] = 1
    return marks


def _stack(rows: list[Float[Tensor, " _"]]) -> Float[Tensor, "n s"]:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
