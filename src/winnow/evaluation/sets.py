"""Evaluation sets, the sampler that answers them, and the held-out evaluation of a training run."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from winnow.engines.base import Engine, rest
from winnow.evaluation.intervals import accuracy, pass_at_k, powers_of_two
from winnow.experience.collect import Judge, sample_and_judge
from winnow.experience.metrics import Clock
from winnow.rewards.reward import kind_of_loss
from winnow.rng import seed_of
from winnow.run_logs.run_files import EvaluationCounts
from winnow.types import Finish, Prompt, Rollouts, Sampling


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Rendered prompts with the judge of their responses; `whole` is the size of the set before any limit."""

    name: str
    prompts: Sequence[Prompt]
    judge: Judge
    whole: int

    @property
    def verifier(self) -> Mapping[str, str | float | bool]:
        """Name and settings of the rule by which a response is correct."""
        return self.judge.settings


@dataclass(frozen=True, slots=True)
class EvaluationSampler:
    """Sampler of `samples` responses per prompt whose random draws are keyed by seed, prompt and sample alone.

    So the draws do not depend on what else is evaluated, and two models with one seed are compared under the same
    noise.
    """

    engine: Engine
    samples: int
    sampling: Sampling
    seed: int

    def rollouts(self, model: PreTrainedModel, version: int, prompts: Sequence[Prompt], judge: Judge) -> Rollouts:
        """Sample and judge responses to `prompts`. The ranks share the work."""
        self.engine.sync(model, version)
        seeds = [[seed_of(self.seed, "eval", p.key, g) for g in range(self.samples)] for p in prompts]
        return sample_and_judge(self.engine, judge, prompts, seeds, self.sampling, Clock()).rollouts


@dataclass(frozen=True, slots=True)
class HeldOutResult:
    """Figures for the row of `metrics.jsonl`, and the number of correct responses to each prompt of each set.

    `lost` has the line on each kind of failure of the reward function that says what a success is.
    """

    figures: dict[str, float]
    counts: list[EvaluationCounts]
    lost: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldOutEvaluator:
    """Evaluator of the policy during training, on fixed sets: avg@k, pass@k, lengths and entropy.

    All evaluations of a run use the same random draws, so their differences are less noisy than those of independent
    ones.
    """

    sets: Sequence[EvaluationSet]
    model: PreTrainedModel
    sampler: EvaluationSampler

    def accuracy_key(self) -> str:
        """Key of the run's main figure: the accuracy on its set or, with several sets, the plain mean of theirs."""
        return "eval/average/acc" if len(self.sets) > 1 else f"eval/{self.sets[0].name}/acc"

    def verifiers(self) -> dict[str, str]:
        """Name of the verifier that judges each set."""
        return {s.name: str(s.verifier["name"]) for s in self.sets}

    def evaluate(self, iteration: int) -> HeldOutResult:
        """Evaluate the policy as it is after `iteration`."""
        found = {s.name: self.sampler.rollouts(self.model, iteration, s.prompts, s.judge) for s in self.sets}
        rest(self.sampler.engine)
        rows = {name: _held_out_metrics(rollouts) for name, rollouts in found.items()}
        mean = sum(row["acc"] for row in rows.values()) / len(rows)
        several = {"eval/average/acc": mean} if len(rows) > 1 else {}
        return HeldOutResult(
            several | {f"eval/{name}/{key}": value for name, row in rows.items() for key, value in row.items()},
            [_held_out_counts(iteration, name, rollouts) for name, rollouts in found.items()],
            {kind: line for name, rollouts in found.items() for kind, line in lost_rewards(name, rollouts).items()},
        )


def lost_rewards(name: str, rollouts: Rollouts) -> dict[str, str]:
    """The lines on responses of a set whose reward was lost, by the kind of failure; they count as wrong."""
    reasons = [each.lost for group in rollouts.rewarded for each in group if each.lost is not None]
    kinds = Counter(map(kind_of_loss, reasons))
    first = {kind_of_loss(reason): reason for reason in reversed(reasons)}
    return {
        kind: f"{name}: {count} response{'s' if count > 1 else ''} without a reward counted as wrong: {first[kind]}"
        for kind, count in kinds.items()
    }


def _held_out_metrics(rollouts: Rollouts) -> dict[str, float]:
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


def _held_out_counts(iteration: int, name: str, rollouts: Rollouts) -> EvaluationCounts:
    samples = rollouts.correct.shape[1]
    right = rollouts.correct.sum(1).tolist()
    return EvaluationCounts(iteration, name, samples, prompt_set_name(rollouts.prompts), tuple(right))


def prompt_set_name(prompts: Sequence[Prompt]) -> str:
    """Hash of the prompts' keys in order, as twelve hexadecimal digits."""
    return hashlib.sha256("\n".join(prompt.key for prompt in prompts).encode()).hexdigest()[:12]
