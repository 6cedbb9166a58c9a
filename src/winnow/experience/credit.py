"""Experience for actor-critic: a value and an advantage for every token."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.algorithm import ActorCritic
from winnow.experience.clock import Clock
from winnow.experience.collect import Collector
from winnow.experience.experience import Experience
from winnow.experience.rollout_metrics import kl_to_initial, rollout_metrics, sample_records, sampler_gap
from winnow.experience.score import score
from winnow.experience.scorer import Scorer, sequences_of
from winnow.experience.weigh import advantage_metrics, rows_under_initial
from winnow.models.critic import Critic
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
        kl, objective = self.algorithm.kl, self.algorithm.objective
        selected = self.algorithm.select(rollouts.rewards, rollouts.correct)
        in_batch = (selected | (self.algorithm.rejected == "zero")).flatten()
        rows = in_batch.nonzero().flatten().tolist()
        with clock.of("score"):
            sequences = sequences_of(rollouts)
            old = self.scorer.old(rollouts)
            logged = self.scorer.metric_rows(iteration, len(sequences))
            needed = rows_under_initial(kl, rows, len(sequences))
            initial = self.scorer.initially(sequences, sorted({*needed, *logged}))
            values = self._values(sequences)
        reference = old if kl is not None and kl.reference == "previous" else initial
        response = _stack([_response(sequence) for sequence in sequences]) > 0
        token_rewards = torch.zeros(response.shape)
        for i, (ids, _) in enumerate(sequences):
            token_rewards[i, len(ids) - 1] = rollouts.rewards.flatten()[i]
            if kl is not None and kl.place == "reward":
                token_rewards[i, : len(ids)] -= kl.coef * kl(old[i], reference[i])
        stacked = _stack(values)
        advantages, returns = self.algorithm.advantage(token_rewards, stacked, response)
        explained = explained_variance(stacked, returns, response)
        if self.algorithm.whiten:
            advantages = whiten_tokens(advantages, response)
        advantages = advantages * selected.flatten().unsqueeze(1)
        items = [
            Row(
                token_ids=sequences[i][0],
                prompt_length=sequences[i][1],
                advantage=advantages[i, : len(sequences[i][0])],
                old_logprobs=old[i] if objective.uses_ratio else None,
                ref_logprobs=reference[i] if objective.kl_in_loss is not None else None,
                values=values[i],
                returns=returns[i, : len(sequences[i][0])],
            )
            for i in rows
        ]
        return Experience(
            items=items,
            inert=[False] * len(items),  # the critic always has something to learn
            records=sample_records(rollouts, iteration, selected, None),
            metrics=rollout_metrics(rollouts, selected)
            | kl_to_initial(old, {i: initial[i] for i in logged}, sequences)
            | sampler_gap(rollouts, old)
            | advantage_metrics(advantages[response & in_batch.unsqueeze(1)])
            | {"train/value/explained_var": explained},
        )

    def _values(self, sequences: list[tuple[tuple[int, ...], int]]) -> list[Float[Tensor, " _"]]:
        def forward(tokens: Int[Tensor, "b s"], start: int) -> Float[Tensor, "b s"]:
            return self.critic(tokens)

        device = next(self.critic.parameters()).device
        return score(forward, sequences, self.scorer.token_budget, device)


def _response(sequence: tuple[tuple[int, ...], int]) -> Float[Tensor, " s"]:
    ids, prompt_length = sequence
    marks = torch.zeros(len(ids))
    marks[prompt_length:] = 1
    return marks


def _stack(rows: list[Float[Tensor, " _"]]) -> Float[Tensor, "n s"]:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
