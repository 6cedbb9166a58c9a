"""Experience for log-probability surrogates: who is kept, and what each kept sample weighs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from winnow.algorithm import PolicyGradient
from winnow.experience.clock import Clock
from winnow.experience.collect import Collector
from winnow.experience.experience import Experience
from winnow.experience.rollout_metrics import kl_to_initial, rollout_metrics, sample_records, sampler_gap
from winnow.experience.scorer import Scorer, sequences_of
from winnow.objectives import KL
from winnow.types import Row


@dataclass(frozen=True, slots=True)
class Weigher:
    """Sample, score, select, weigh: the order of the paper."""

    collector: Collector
    scorer: Scorer
    algorithm: PolicyGradient

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        kl = self.algorithm.kl
        with clock.of("score"):
            sequences = sequences_of(rollouts)
            old = self.scorer.old(rollouts)
            logged = self.scorer.metric_rows(iteration, len(sequences))
            selected = self.algorithm.select(rollouts.rewards, rollouts.correct)
            in_batch = selected | (self.algorithm.rejected == "zero")
            rows = in_batch.flatten().nonzero().flatten().tolist()
            needed = rows_under_initial(kl, rows, len(sequences))
            initial = self.scorer.initially(sequences, sorted({*needed, *logged}))
        reference = old if kl is not None and kl.reference == "previous" else initial
        shaped = rollouts.rewards
        if kl is not None and kl.place == "reward":
            penalties = torch.stack([kl(old[i], reference[i]).sum() for i in range(len(sequences))])
            shaped = shaped - kl.coef * penalties.view_as(shaped)
        advantage = self.algorithm.advantages(shaped, selected)
        flat = advantage.flatten()
        items = [
            row_of(
                sequences[i],
                advantage=float(flat[i]),
                old=old[i] if self.algorithm.objective.uses_ratio else None,
                ref=reference[i] if self.algorithm.objective.kl_in_loss is not None else None,
            )
            for i in rows
        ]
        always = self.algorithm.objective.moves_without_advantage
        return Experience(
            items=items,
            inert=[float(flat[i]) == 0 and not always for i in rows],
            records=sample_records(rollouts, iteration, selected, advantage),
            metrics=rollout_metrics(rollouts, selected)
            | kl_to_initial(old, {i: initial[i] for i in logged}, sequences)
            | sampler_gap(rollouts, old)
            | advantage_metrics(flat[rows]),
        )


def rows_under_initial(kl: KL | None, rows: list[int], count: int) -> list[int]:
    """Which rows must be scored under the initial policy for the KL term: those in the batch, or all for the reward."""
    if kl is None or kl.reference == "previous":
        return []
    return list(range(count)) if kl.place == "reward" else rows


def row_of(
    sequence: tuple[tuple[int, ...], int],
    advantage: float,
    old: Float[Tensor, " s"] | None,
    ref: Float[Tensor, " s"] | None,
) -> Row:
    """A row whose advantage is the same at every response token."""
    token_ids, prompt_length = sequence
    per_token = torch.zeros(len(token_ids))
    per_token[prompt_length:] = advantage
    return Row(token_ids, prompt_length, per_token, old, ref)


def advantage_metrics(advantages: Float[Tensor, " n"]) -> dict[str, float]:
    """Over whatever was kept; nothing if nothing was."""
    if not len(advantages):
        return {}
    return {
        "train/adv/mean": float(advantages.mean()),
        "train/adv/std": float(advantages.std(correction=0)),
        "train/adv/abs_max": float(advantages.abs().max()),
    }
