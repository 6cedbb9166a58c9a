"""Drawing of an iteration's samples, as a collector asks for it: prompts are met, and samples of them drawn in rounds.

Every draw is a function of names: prompt p of an iteration and sample g of it are the same in whatever round they are
drawn, and however many ranks share the round.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch.nn.utils.rnn import pad_sequence

from winnow import distributed
from winnow.rewards.reward import JudgedGroup, Rewards
from winnow.rng import seed_of
from winnow.types import Prompt, Rollouts
from winnow.verdict import Verdict

Weights = Literal["embeddings", "all"]
GradientNorms = Callable[[Rollouts, Sequence[int], Weights], list[float]]
"""Rollouts, row numbers and weights → the norm of the gradient of each response's log-probability by these weights.
Ranks share the work."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged and rewarded samples of some prompts, a group for each, by policy `version`."""

    prompts: Sequence[Prompt]
    groups: Sequence[JudgedGroup]
    rewards: Rewards
    version: int

    @property
    def rollouts(self) -> Rollouts:
        return rollouts_of(self.prompts, self.groups, self.rewards, self.version)


Draw = Callable[[Sequence[Prompt], Sequence[Sequence[int]]], Judged]
"""Prompts, and the seeds of samples of each → these samples, the same on every rank."""


def rollouts_of(prompts: Sequence[Prompt], groups: Sequence[JudgedGroup], rewards: Rewards, version: int) -> Rollouts:
    """The rollouts of judged and rewarded completions that policy `version` has drawn."""
    judgements = tuple(tuple(rewarded.judgement for rewarded in group) for group in rewards.groups)
    totals = [torch.tensor([rewarded.total for rewarded in group]) for group in rewards.groups]
    correct = [torch.tensor([judged.verdict is Verdict.correct for judged in group]) for group in judgements]
    return Rollouts(
        tuple(prompts),
        tuple(group.completions for group in groups),
        tuple(group.texts for group in groups),
        judgements,
        pad_sequence(totals, batch_first=True, padding_value=torch.nan),
        pad_sequence(correct, batch_first=True),
        version,
        tuple(rewards.groups),
        {name: sum(values) / len(values) for name, values in rewards.logged.items() if values},
        weights=rewards.weights,
    )


@dataclass(eq=False)
class Drawing:
    """The drawing of one iteration: what was drawn so far, and the ways to go on.

    `upcoming` are the prompts that the iteration may meet, in their order; `prompts` (P) and `samples` (G) are the
    numbers of `rollout.prompts` and `rollout.samples`. Prompts and samples keep the numbers in which they came.
    """

    prompts: int
    samples: int
    upcoming: Callable[[int, int], Sequence[Prompt]]
    """(first, last + 1) → these prompts of the iteration."""
    draw_samples: Draw
    gradient_norms: GradientNorms
    seed: int
    iteration: int
    rounds: int = field(default=0, init=False)
    _met: list[Prompt] = field(default_factory=list, init=False)
    _drawn: dict[int, tuple[JudgedGroup, tuple]] = field(default_factory=dict, init=False)
    _logged: dict[str, list[float]] = field(default_factory=dict, init=False)
    _weights: tuple[float, ...] = field(default=(), init=False)
    _version: int = field(default=-1, init=False)

    def meet(self, count: int) -> list[int]:
        """Meet `count` further prompts; their numbers."""
        first = len(self._met)
        self._met += self.upcoming(first, first + count)
        keys = [prompt.key for prompt in self._met[first:]]
        distributed.require_equal(keys, f"the prompts of iteration {self.iteration + 1}")
        return list(range(first, first + count))

    def draw(self, counts: Mapping[int, int]) -> None:
        """Draw so many further samples of each of these prompts; each prompt has to get one sooner or later."""
        counts = {p: count for p, count in counts.items() if count}
        if not counts:
            return
        names = distinct_names([prompt.key for prompt in self._met])
        before = {p: len(self._drawn[p][1]) if p in self._drawn else 0 for p in counts}
        seeds = [
            [seed_of(self.seed, "sample", self.iteration, names[p], before[p] + g) for g in range(count)]
            for p, count in counts.items()
        ]
        judged = self.draw_samples([self._met[p] for p in counts], seeds)
        for p, group, rewarded in zip(counts, judged.groups, judged.rewards.groups, strict=True):
            old, old_rewarded = self._drawn.get(p, (JudgedGroup((), (), ()), ()))
            joined = JudgedGroup(
                old.completions + group.completions,
                old.texts + group.texts,
                old.judgements + group.judgements,
                old.seeds + group.seeds,
            )
            self._drawn[p] = joined, (*old_rewarded, *rewarded)
        for name, values in judged.rewards.logged.items():
            self._logged.setdefault(name, []).extend(values)
        self._version, self._weights = judged.version, judged.rewards.weights
        self.rounds += 1

    @property
    def rollouts(self) -> Rollouts:
        """All samples that were drawn so far, by number of their prompt."""
        numbers = sorted(self._drawn)
        rewards = Rewards([self._drawn[p][1] for p in numbers], self._logged, self._weights)
        groups = [self._drawn[p][0] for p in numbers]
        found = rollouts_of([self._met[p] for p in numbers], groups, rewards, self._version)
        return replace(found, rounds=self.rounds)


def distinct_names(keys: Sequence[str]) -> list[str]:
    """Keys of prompts made distinct: `["a", "b", "a"]` becomes `["a", "b", "a again 1"]`.

    Seeds are made from these names. A prompt that occurs twice in an iteration gets new samples the second time.
    """
    seen: Counter[str] = Counter()
    names = []
    for key in keys:
        names.append(f"{key} again {seen[key]}" if seen[key] else key)
        seen[key] += 1
    return names
