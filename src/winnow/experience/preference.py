"""Experience for iterative DPO: preference pairs from the policy's own samples."""

from dataclasses import dataclass, replace

import torch

from winnow.algorithm import Preference
from winnow.experience.batching import Experience
from winnow.experience.collect import Collector
from winnow.experience.evidence import Evidence
from winnow.experience.left_out import left_out, sampled_faults, without
from winnow.experience.metrics import Clock, pair_gradient_mass_metrics, rollout_metrics, sample_records
from winnow.experience.scoring import Scorer
from winnow.types import Pair, Rollouts, Row


@dataclass(frozen=True, slots=True)
class PreferenceExperience:
    """Sample, pair, and score the members of pairs under the reference policy."""

    collector: Collector
    scorer: Scorer
    algorithm: Preference

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        rollouts = self.collector.collect(iteration, clock)
        places = self._pairs(rollouts)
        paired = [i for pair in places for i in pair]
        with clock.of("score"):
            scored = self.scorer(rollouts, iteration, (), paired, self.algorithm.reference)
        places = [pair for pair in places if not scored.faults.keys() & {*pair}]
        paired = [i for pair in places for i in pair]

        def row(i: int) -> Row:
            return replace(scored.sequences[i], ref_logprobs=scored.reference.get(i))

        in_pairs = torch.zeros(len(scored.sequences), dtype=torch.bool)
        in_pairs[paired] = True
        selected = rollouts.matrix(in_pairs)
        return Experience(
            items=[Pair(row(chosen), row(rejected)) for chosen, rejected in places],
            zero_gradient=[False] * len(places),
            records=sample_records(rollouts, iteration, selected, None),
            metrics=rollout_metrics(rollouts, selected)
            | scored.metrics
            | pair_gradient_mass_metrics(rollouts, places)
            | {"train/dpo/pairs": float(len(places))},
            evidence=Evidence(rollouts, scored.old, scored.reference, tuple(places)),
            left_out=left_out(scored.faults, {i: row(i) for i in scored.faults}, rollouts),
        )

    def _pairs(self, rollouts: Rollouts) -> list[tuple[int, int]]:
        """Row numbers of the chosen and the rejected samples, selected among those that the collector passes on and
        whose numbers are finite."""
        number = rollouts.matrix(torch.arange(len(rollouts.all_completions))).tolist()
        usable = without(rollouts.kept, sampled_faults(rollouts), rollouts)
        if usable.all():
            triples = self.algorithm.pairs(rollouts.rewards, rollouts.facts).tolist()
            return [(number[p][c], number[p][r]) for p, c, r in triples]
        found: list[tuple[int, int]] = []
        for p, row in enumerate(usable):
            places = row.nonzero().flatten()
            if len(places):
                part = torch.full_like(places, p)[None], places[None]
                triples = self.algorithm.pairs(rollouts.rewards[part], rollouts.facts.at(part))
                found += [(number[p][places[c]], number[p][places[r]]) for _, c, r in triples.tolist()]
        return found
