"""Experience for iterative DPO: preference pairs from the policy's own samples."""

from dataclasses import dataclass, replace

import torch

from winnow.algorithm import Preference
from winnow.experience.batching import Experience
from winnow.experience.collect import Collector
from winnow.experience.evidence import Evidence
from winnow.experience.metrics import Clock, pair_gradient_mass_metrics, rollout_metrics, sample_records
from winnow.experience.scoring import Scorer
from winnow.types import Pair, Row


@dataclass(frozen=True, slots=True)
class PreferenceExperience:
    """Sample, pair, and score the members of pairs under the reference policy."""

    collector: Collector
    scorer: Scorer
    algorithm: Preference

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        samples = rollouts.rewards.shape[1]
        triples = self.algorithm.select(rollouts.rewards, rollouts.correct)
        places = [(p * samples + c, p * samples + r) for p, c, r in triples.tolist()]
        paired = [i for pair in places for i in pair]
        with clock.of("score"):
            scored = self.scorer(rollouts, iteration, (), paired, self.algorithm.reference)

        def row(i: int) -> Row:
            return replace(scored.sequences[i], ref_logprobs=scored.reference[i])

        selected = torch.zeros_like(rollouts.correct)
        selected.view(-1)[paired] = True
        return Experience(
            items=[Pair(row(chosen), row(rejected)) for chosen, rejected in places],
            zero_gradient=[False] * len(places),
            records=sample_records(rollouts, iteration, selected, None),
            metrics=rollout_metrics(rollouts, selected)
            | scored.metrics
            | pair_gradient_mass_metrics(rollouts, places)
            | {"train/dpo/pairs": float(len(places))},
            evidence=Evidence(rollouts, scored.old, scored.reference, tuple(places)),
        )
