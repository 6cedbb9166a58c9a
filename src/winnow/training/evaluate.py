"""Held-out accuracy while training, by sampling."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from winnow.evaluation.figures import powers_of_two
from winnow.evaluation.sets import Asking, EvaluationSet
from winnow.evaluation.statistics import accuracy, pass_at_k
from winnow.report.run_files import EvaluationCounts
from winnow.types import Finish, Prompt, Rollouts


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures for the row of metrics, and how often each prompt of each set was answered rightly."""

    figures: dict[str, float]
    counts: list[EvaluationCounts]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """avg@k and pass@k over fixed sets. Evaluations of a run share their noise."""

    sets: Sequence[EvaluationSet]
    model: PreTrainedModel
    asking: Asking

    def accuracy_key(self) -> str:
        """The figure that a run is known by: with several sets, their plain mean."""
        return "eval/average/acc" if len(self.sets) > 1 else f"eval/{self.sets[0].name}/acc"

    def verifiers(self) -> dict[str, str]:
        """The verifier that judges each set."""
        return {s.name: str(s.verifier["name"]) for s in self.sets}

    def evaluate(self, iteration: int) -> Evaluation:
        """The policy as it is after `iteration`."""
        asked = {s.name: self.asking.rollouts(self.model, iteration, s.prompts, s.judge) for s in self.sets}
        rows = {name: _figures(rollouts) for name, rollouts in asked.items()}
        mean = sum(row["acc"] for row in rows.values()) / len(rows)
        several = {"eval/average/acc": mean} if len(rows) > 1 else {}
        return Evaluation(
            several | {f"eval/{name}/{key}": value for name, row in rows.items() for key, value in row.items()},
            [_counts(iteration, name, rollouts) for name, rollouts in asked.items()],
        )


def _figures(rollouts: Rollouts) -> dict[str, float]:
    completions = [c for group in rollouts.completions for c in group]
    correct = rollouts.correct.numpy()
    interval = accuracy(correct)
    return {
        "acc": interval.estimate,
        "acc_low": interval.low,
        "acc_high": interval.high,
        **{f"pass@{k}": pass_at_k(correct, k).estimate for k in powers_of_two(correct.shape[1])},
        "length": sum(len(c.token_ids) for c in completions) / len(completions),
        "truncated_frac": sum(c.finish is Finish.LENGTH for c in completions) / len(completions),
        "entropy": float(torch.cat([c.entropies for c in completions]).mean()),
    }


def _counts(iteration: int, name: str, rollouts: Rollouts) -> EvaluationCounts:
    samples = rollouts.correct.shape[1]
    right = rollouts.correct.sum(1).tolist()
    return EvaluationCounts(iteration, name, samples, name_of(rollouts.prompts), tuple(right))


def name_of(prompts: Sequence[Prompt]) -> str:
    """Twelve hexadecimal digits, the same for the same prompts in the same order."""
    return hashlib.sha256("\n".join(prompt.key for prompt in prompts).encode()).hexdigest()[:12]
