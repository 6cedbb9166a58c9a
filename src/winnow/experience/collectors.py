"""Collectors, which `collector` selects: the samples that an iteration draws, and those that it passes on to training.

Each sees verdicts and no rewards, so that no penalty decides on what is drawn. Everything that is drawn counts: in the
budget, in the metrics, in baselines, and in what a curriculum learns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from winnow.experience.drawing import Drawing, Weights
from winnow.types import Rollouts

Goal = Literal["positives", "balance"]


@runtime_checkable
class CollectorRule(Protocol):
    """Interface of the objects that `conf/collector` builds."""

    @property
    def patience(self) -> int | None:
        """Iterations in a row without any mixed prompt, after which the run ends; None: it goes on."""
        ...

    def most_prompts(self, prompts: int) -> int:
        """The number of prompts that an iteration may meet, where `rollout.prompts` is `prompts`.

        An iteration takes so many places in the order of the problems, whether it needs them or not.
        """
        ...

    def in_words(self, prompts: int, samples: int) -> str:
        """The drawing of an iteration in words, for a line that a run says at its start."""
        ...

    def __call__(self, drawing: Drawing) -> Rollouts:
        """The samples of one iteration, with `chosen` for those that training sees."""
        ...


@dataclass(frozen=True)
class Fixed:
    """`rollout.samples` samples of each of `rollout.prompts` prompts."""

    patience: None = None

    def most_prompts(self, prompts: int) -> int:
        return prompts

    def in_words(self, prompts: int, samples: int) -> str:
        return f"{prompts} prompts × {samples} samples = {prompts * samples} responses"

    def __call__(self, drawing: Drawing) -> Rollouts:
        drawing.draw(dict.fromkeys(drawing.meet(drawing.prompts), drawing.samples))
        return drawing.rollouts


@dataclass(frozen=True)
class Refill:
    """Further prompts until `rollout.prompts` of them are mixed (DAPO, arXiv 2503.14476, section 3.2).

    Each round meets `prompts` prompts (None: `rollout.prompts`), and there are at most `rounds` of them. The first
    mixed prompts in their order are trained on. Where too few are mixed after the last round, those have to do.
    """

    rounds: int
    prompts: int | None
    patience: int | None

    def most_prompts(self, prompts: int) -> int:
        return self.rounds * (self.prompts or prompts)

    def in_words(self, prompts: int, samples: int) -> str:
        round_of = f"rounds of {self.prompts or prompts} prompts × {samples} samples, {self.rounds} at most"
        return f"{round_of}, until {prompts} prompts are mixed: their {prompts * samples} responses"

    def __call__(self, drawing: Drawing) -> Rollouts:
        found, mixed = None, torch.zeros(0, dtype=torch.bool)
        for _ in range(self.rounds):
            drawing.draw(dict.fromkeys(drawing.meet(self.prompts or drawing.prompts), drawing.samples))
            found = drawing.rollouts
            mixed = mixed_prompts(found)
            if int(mixed.sum()) >= drawing.prompts:
                break
        assert found is not None
        first = mixed & (mixed.cumsum(0) <= drawing.prompts)
        return replace(found, chosen=first[:, None] & found.drawn)


@dataclass(frozen=True)
class Adaptive:
    """Rounds of samples until a prompt has enough of each kind (Reinforce-Ada, arXiv 2510.04996, Algorithm 1).

    A round draws `samples` samples of every prompt that is still open, and there are at most `rounds` of them. A prompt
    is done with `positives` correct samples (goal `positives`), or with half of `rollout.samples` correct ones and as
    many others as are left of that number (goal `balance`). Of all its samples `rollout.samples` are trained on.
    """

    rounds: int
    samples: int
    goal: Goal
    positives: int
    patience: int | None

    def most_prompts(self, prompts: int) -> int:
        return prompts

    def in_words(self, prompts: int, samples: int) -> str:
        round_of = f"{prompts} prompts × rounds of {self.samples} samples, {self.rounds} at most"
        return f"{round_of}, {samples} kept of each = {prompts * samples} responses"

    def __call__(self, drawing: Drawing) -> Rollouts:
        still_open, found = drawing.meet(drawing.prompts), None
        for _ in range(self.rounds):
            drawing.draw(dict.fromkeys(still_open, self.samples))
            found = drawing.rollouts
            right = found.correct.sum(1)
            wrong = found.sizes - right
            still_open = [p for p in still_open if not self.is_done(int(right[p]), int(wrong[p]), drawing.samples)]
            if not still_open:
                break
        assert found is not None
        pairs = zip(found.correct.tolist(), found.sizes.tolist(), strict=True)
        kept = [balanced(correct[:size], drawing.samples) for correct, size in pairs]
        return replace(found, chosen=found.matrix(torch.tensor([keep for group in kept for keep in group])))

    def is_done(self, right: int, wrong: int, samples: int) -> bool:
        """Whether a prompt with so many correct and other samples gets no further ones."""
        if self.goal == "positives":
            return right >= self.positives
        return right >= samples // 2 and wrong >= samples - samples // 2


def balanced(correct: Sequence[bool], count: int) -> list[bool]:
    """The `count` of a prompt's samples that stay: the first correct ones and the first others, half of each.

    Where there are fewer of one kind, more of the other fill up; where `count` is odd, the others have one more.
    """
    right = sum(correct)
    others = min(count - min(count // 2, right), len(correct) - right)
    room = {True: count - others, False: others}
    kept = []
    for each in correct:
        kept.append(room[each] > 0)
        room[each] -= 1
    return kept


@dataclass(frozen=True)
class Budgets:
    """Samples where they lower the variance of the gradient most (GVM-RAFT, arXiv 2505.02391).

    First `presamples` samples of each prompt are drawn, from which its pass rate p is estimated and its gradient G: the
    mean norm of the gradient of log π of its correct samples, over the weights that `gradient` names. Then
    `rollout.prompts` × `rollout.samples` samples are divided among the prompts in proportion to G / √(p + α / p^(β −
    1)), and these are trained on; a prompt without a correct sample gets none.
    """

    presamples: int
    alpha: float
    beta: float
    gradient: Weights
    patience: int | None

    def most_prompts(self, prompts: int) -> int:
        return prompts

    def in_words(self, prompts: int, samples: int) -> str:
        before = f"{prompts} prompts × {self.presamples} samples"
        after = f"then {prompts} × {samples} divided by their pass rates and gradients"
        return f"{before}, {after} = {prompts * samples} responses"

    def __call__(self, drawing: Drawing) -> Rollouts:
        met = drawing.meet(drawing.prompts)
        drawing.draw(dict.fromkeys(met, self.presamples))
        before = drawing.rollouts
        correct = [i for i, place in enumerate(before.places) if before.correct[place]]
        norms: dict[int, list[float]] = {p: [] for p in met}
        for i, norm in zip(correct, drawing.gradient_norms(before, correct, self.gradient), strict=True):
            norms[before.places[i][0]].append(norm)
        gradients = [sum(of_prompt) / len(of_prompt) if of_prompt else 0.0 for of_prompt in norms.values()]
        rates = [len(of_prompt) / self.presamples for of_prompt in norms.values()]
        total = drawing.prompts * drawing.samples
        drawing.draw(dict(zip(met, divided(total, self.shares(gradients, rates)), strict=True)))
        found = drawing.rollouts
        return replace(found, chosen=found.drawn & (torch.arange(found.rewards.shape[1]) >= self.presamples))

    def shares(self, gradients: Sequence[float], rates: Sequence[float]) -> list[float]:
        """Each prompt's share of the samples; 0 for all of them if no prompt has a correct sample."""
        weights = [
            g / sqrt(p + self.alpha / p ** (self.beta - 1)) if p > 0 else 0.0
            for g, p in zip(gradients, rates, strict=True)
        ]
        total = sum(weights)
        return [weight / total if total > 0 else 0.0 for weight in weights]


def divided(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole parts near `total` × share: each is rounded, and then corrected where rounding moved it most."""
    if not any(shares):
        return [0] * len(shares)
    exact = [total * share for share in shares]
    parts = [round(part) for part in exact]
    missing = total - sum(parts)
    sign = 1 if missing > 0 else -1
    order = sorted(range(len(parts)), key=lambda p: sign * (parts[p] - exact[p]))
    for p in order[: abs(missing)]:
        parts[p] += sign
    return parts


def mixed_prompts(rollouts: Rollouts) -> Bool[Tensor, " p"]:
    """Whether a prompt has both correct and other samples."""
    correct = rollouts.correct.sum(1)
    return (correct > 0) & (correct < rollouts.sizes)
