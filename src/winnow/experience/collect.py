"""Collect: prompts → engine → verdicts → rewards."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from winnow.data.prompts import PromptOrder
from winnow.engines.base import Engine
from winnow.experience import ranks
from winnow.experience.clock import Clock
from winnow.rewards.pool import VerifierPool
from winnow.rewards.scale import RewardScale
from winnow.rewards.verdict import Verdict
from winnow.rng import seed_of
from winnow.types import Completion, Prompt, Rollouts, Sampling


@dataclass(frozen=True, slots=True)
class Judge:
    """Verdicts on responses, and what each verdict is worth."""

    pool: VerifierPool
    scale: RewardScale
    decode: Callable[[tuple[int, ...]], str]

    def rollouts(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]], version: int
    ) -> Rollouts:
        """Judge P × G completions, each on one rank only: a time limit is a matter of the moment, and ranks must agree."""
        texts = tuple(tuple(self.decode(c.token_ids) for c in group) for group in completions)
        flat_texts = [text for group in texts for text in group]
        golds = [p.answer for p, group in zip(prompts, texts, strict=True) for _ in group]
        mine = self.pool.judge(ranks.share_of(golds), ranks.share_of(flat_texts))
        flat = ranks.gather(mine, len(golds))
        size = len(texts[0])
        judgements = tuple(tuple(flat[i : i + size]) for i in range(0, len(flat), size))
        rewards = [[self.scale(j.verdict) for j in group] for group in judgements]
        correct = [[j.verdict is Verdict.correct for j in group] for group in judgements]
        return Rollouts(
            tuple(prompts),
            tuple(tuple(group) for group in completions),
            texts,
            judgements,
            torch.tensor(rewards),
            torch.tensor(correct),
            version,
        )


class Collector:
    """Draws G samples for each of an iteration's P prompts from the policy, and judges them."""

    def __init__(
        self,
        model: PreTrainedModel,
        engine: Engine,
        order: PromptOrder,
        judge: Judge,
        sampling: Sampling,
        prompts: int,
        samples: int,
        seed: int,
    ) -> None:
        self.model, self.engine, self.order, self.judge, self.sampling = model, engine, order, judge, sampling
        self.prompts, self.samples, self.seed = prompts, samples, seed

    def collect(self, iteration: int, clock: Clock) -> Rollouts:
        """The rollouts of `iteration`, drawn with the weights as they are now; the same on every rank."""
        prompts = self.order.prompts_of(iteration, self.prompts)
        ranks.require_equal([prompt.key for prompt in prompts], f"the prompts of iteration {iteration + 1}")
        with clock.of("generate"):
            self.engine.sync(self.model, iteration)
            mine = ranks.share_of(prompts)
            names = ranks.share_of(distinct([prompt.key for prompt in prompts]))
            seeds = [[seed_of(self.seed, "sample", iteration, name, g) for g in range(self.samples)] for name in names]
            completions = ranks.gather(self.engine.generate(mine, seeds, self.sampling), len(prompts))
        if self.engine.version != iteration:
            raise RuntimeError(f"the engine sampled from policy {self.engine.version}, not {iteration}")
        with clock.of("reward"):
            return self.judge.rollouts(prompts, completions, iteration)


def distinct(keys: Sequence[str]) -> list[str]:
    """`["a", "b", "a"]` as `["a", "b", "a again 1"]`: a prompt that comes twice in an iteration is sampled anew."""
    seen: Counter[str] = Counter()
    names = []
    for key in keys:
        names.append(f"{key} again {seen[key]}" if seen[key] else key)
        seen[key] += 1
    return names
