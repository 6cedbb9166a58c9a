"""Experience for preference learning: pairs from the run's own samples."""

from dataclasses import dataclass

import torch

from winnow.algorithm import Preference
from winnow.experience.clock import Clock
from winnow.experience.collect import Collector
from winnow.experience.experience import Experience
from winnow.experience.rollout_metrics import kl_to_initial, rollout_metrics, sample_records, sampler_gap
from winnow.experience.scorer import Scorer, sequences_of
from winnow.types import Pair, Row


@dataclass(frozen=True, slots=True)
class Pairer:
    """Sample, score, pair."""

    collector: Collector
    scorer: Scorer
    algorithm: Preference

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        samples = rollouts.rewards.shape[1]
        triples = self.algorithm.select(rollouts.rewards, rollouts.correct)
        places = [(p * samples + c, p * samples + r) for p, c, r in triples.tolist()]
        with clock.of("score"):
            sequences = sequences_of(rollouts)
            old = self.scorer.old(rollouts)
            logged = self.scorer.metric_rows(iteration, len(sequences))
            previous = self.algorithm.reference == "previous"
            paired = [] if previous else [i for pair in places for i in pair]
            initial = self.scorer.initially(sequences, sorted({*paired, *logged}))
        reference = old if previous else initial

        def row(i: int) -> Row:
            return Row(*sequences[i], ref_logprobs=reference[i])

        selected = torch.zeros(len(sequences), dtype=torch.bool)
        selected[[i for pair in places for i in pair]] = True
        selected = selected.view_as(rollouts.correct)
        return Experience(
            items=[Pair(row(chosen), row(rejected)) for chosen, rejected in places],
            inert=[False] * len(places),
            records=sample_records(rollouts, iteration, selected, None),
            metrics=rollout_metrics(rollouts, selected)
            | kl_to_initial(old, {i: initial[i] for i in logged}, sequences)
            | sampler_gap(rollouts, old)
            | {"train/dpo/pairs": float(len(places))},
        )
