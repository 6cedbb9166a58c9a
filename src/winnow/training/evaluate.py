"""Held-out accuracy while training, by sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from winnow.evaluation.sets import Asking, EvaluationSet
from winnow.evaluation.statistics import accuracy
from winnow.types import Finish


@dataclass(frozen=True, slots=True)
class Evaluator:
    """avg@k over fixed sets. Evaluations of a run share their noise."""

    sets: Sequence[EvaluationSet]
    model: PreTrainedModel
    asking: Asking

    def accuracy_key(self) -> str:
        """The figure that a run is known by: with several sets, their plain mean."""
        return "eval/average/acc" if len(self.sets) > 1 else f"eval/{self.sets[0].name}/acc"

    def verifiers(self) -> dict[str, str]:
        """The verifier that judges each set."""
        return {s.name: str(s.verifier["name"]) for s in self.sets}

    def evaluate(self, version: int) -> dict[str, float]:
        """Figures of the policy as it is now."""
        rows = {s.name: self._figures(s, version) for s in self.sets}
        mean = sum(row["acc"] for row in rows.values()) / len(rows)
        several = {"eval/average/acc": mean} if len(rows) > 1 else {}
        return several | {f"eval/{name}/{key}": value for name, row in rows.items() for key, value in row.items()}

    def _figures(self, s: EvaluationSet, version: int) -> dict[str, float]:
        rollouts = self.asking.rollouts(self.model, version, s.prompts, s.judge)
        completions = [c for group in rollouts.completions for c in group]
        interval = accuracy(rollouts.correct.numpy())
        return {
            "acc": interval.estimate,
            "acc_low": interval.low,
            "acc_high": interval.high,
            f"pass@{self.asking.samples}": float(rollouts.correct.any(1).float().mean()),
            "length": sum(len(c.token_ids) for c in completions) / len(completions),
            "truncated_frac": sum(c.finish is Finish.LENGTH for c in completions) / len(completions),
            "entropy": float(torch.cat([c.entropies for c in completions]).mean()),
        }
