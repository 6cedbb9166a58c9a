"""Held-out accuracy, by sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from winnow.engines.base import Engine
from winnow.experience import ranks
from winnow.experience.collect import Judge
from winnow.rng import seed_of
from winnow.types import Finish, Prompt, Sampling


@dataclass(frozen=True, slots=True)
class Evaluator:
    """avg@k over a fixed set. Its draws are named by prompt and sample alone: evaluations of a run share their noise."""

    name: str
    model: PreTrainedModel
    engine: Engine
    judge: Judge
    prompts: Sequence[Prompt]
    samples: int
    sampling: Sampling
    seed: int

    def accuracy_key(self) -> str:
        return f"eval/{self.name}/acc"

    def evaluate(self, version: int) -> dict[str, float]:
        """Figures of the policy as it is now."""
        self.engine.sync(self.model, version)
        mine = ranks.share_of(self.prompts)
        seeds = [[seed_of(self.seed, "eval", p.key, g) for g in range(self.samples)] for p in mine]
        drawn = ranks.gather(self.engine.generate(mine, seeds, self.sampling), len(self.prompts))
        rollouts = self.judge.rollouts(self.prompts, drawn, version)
        completions = [c for group in drawn for c in group]
        correct = rollouts.correct.float()
        return {
            self.accuracy_key(): float(correct.mean()),
            f"eval/{self.name}/pass@{self.samples}": float(correct.amax(1).mean()),
            f"eval/{self.name}/length": sum(len(c.token_ids) for c in completions) / len(completions),
            f"eval/{self.name}/truncated_frac": sum(c.finish is Finish.LENGTH for c in completions) / len(completions),
            f"eval/{self.name}/entropy": float(torch.cat([c.entropies for c in completions]).mean()),
        }
