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
from winnow.experience.hearing import Heard, Hearing
from winnow.rewards.pool import VerifierPool
from winnow.rewards.scale import RewardScale
from winnow.rewards.verdict import Verdict
from winnow.rng import seed_of
from winnow.types import Prompt, Rollouts, Sampling


@dataclass(frozen=True, slots=True)
class Judge:
    """Verdicts on responses, and what each verdict is worth."""

    pool: VerifierPool
    scale: RewardScale
    decode: Callable[[tuple[int, ...]], str]

    def hearing(self, prompts: Sequence[Prompt]) -> Hearing:
        return Hearing(self.pool, self.decode, prompts)

    def rollouts(self, prompts: Sequence[Prompt], heard: Sequence[Heard], version: int) -> Rollouts:
        """Rewards for P × G judged completions."""
        return Rollouts(
            tuple(prompts),
            tuple(group.completions for group in heard),
            tuple(group.texts for group in heard),
            tuple(group.judgements for group in heard),
            torch.tensor([[self.scale(j.verdict) for j in group.judgements] for group in heard]),
            torch.tensor([[j.verdict is Verdict.correct for j in group.judgements] for group in heard]),
            version,
        )


def sample(
    engine: Engine,
    judge: Judge,
    prompts: Sequence[Prompt],
    seeds: Sequence[Sequence[int]],
    sampling: Sampling,
    clock: Clock,
) -> Rollouts:
    """Draw and judge; ranks share the work.

    A response is judged on the rank that drew it and nowhere else: a time limit is a matter of the moment, and ranks must agree.
    """
    mine = ranks.share_of(prompts)
    with judge.hearing(mine) as hearing:
        with clock.of("generate"):
            completions = engine.generate(mine, ranks.share_of(seeds), sampling, hearing.done)
        with clock.of("reward"):
            heard = hearing.groups(completions)
    return judge.rollouts(prompts, ranks.gather(heard, len(prompts)), engine.version)


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
        names = distinct([prompt.key for prompt in prompts])
        seeds = [[seed_of(self.seed, "sample", iteration, name, g) for g in range(self.samples)] for name in names]
        with clock.of("sync"):
            self.engine.sync(self.model, iteration)
        rollouts = sample(self.engine, self.judge, prompts, seeds, self.sampling, clock)
        if rollouts.policy_version != iteration:
            raise RuntimeError(f"the engine sampled from policy {rollouts.policy_version}, not {iteration}")
        return rollouts


def distinct(keys: Sequence[str]) -> list[str]:
    """`["a", "b", "a"]` as `["a", "b", "a again 1"]`: a prompt that comes twice in an iteration is sampled anew."""
    seen: Counter[str] = Counter()
    names = []
    for key in keys:
        names.append(f"{key} again {seen[key]}" if seen[key] else key)
        seen[key] += 1
    return names
