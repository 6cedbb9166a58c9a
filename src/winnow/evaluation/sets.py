"""Problems as an evaluation asks them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from winnow.engines.base import Engine
from winnow.experience.clock import Clock
from winnow.experience.collect import Judge, sample
from winnow.rng import seed_of
from winnow.types import Prompt, Rollouts, Sampling


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Rendered prompts, and the judge whose verifier the set calls for; `whole` is the size before any limit."""

    name: str
    prompts: Sequence[Prompt]
    judge: Judge
    whole: int

    @property
    def verifier(self) -> Mapping[str, str | float | bool]:
        return self.judge.pool.settings


@dataclass(frozen=True, slots=True)
class Asking:
    """How prompts are put: `samples` draws each, named by seed, prompt and sample alone.

    Hence an evaluation draws the same noise whatever else is asked, and two models are compared under it if their seeds agree.
    """

    engine: Engine
    samples: int
    sampling: Sampling
    seed: int

    def rollouts(self, model: PreTrainedModel, version: int, prompts: Sequence[Prompt], judge: Judge) -> Rollouts:
        """Draw and judge; ranks share the work."""
        self.engine.sync(model, version)
        seeds = [[seed_of(self.seed, "eval", p.key, g) for g in range(self.samples)] for p in prompts]
        return sample(self.engine, judge, prompts, seeds, self.sampling, Clock())
