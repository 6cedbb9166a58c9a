"""What is compared: one number a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from winnow.study.figures import (
    accuracy,
    accuracy_by_prompt,
    early,
    last,
    late,
    mean_of,
    seconds,
    total_of,
)
from winnow.study.runs import StudyRun
from winnow.study.statistics import PerPrompt
from winnow.study.study import Arm


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run, NaN where it was not recorded.

    Accuracies are in per cent, their differences in points. `says` is how a sentence tells B beside A: `{b} ends {size} {side}
    {a}`. Two runs are compared by the difference, where `ratio` by the quotient: an entropy of 0.02 beside 0.01 and one of 6
    beside 3 differ equally. `per_prompt` is the same figure for each prompt of an evaluation, where there is such a thing.
    """

    key: str
    title: str
    unit: str
    of: Callable[[StudyRun], float]
    says: str = "the {title} of {b} is {size} {side} that of {a}"
    ratio: bool = False
    per_prompt: Callable[[StudyRun], PerPrompt] | None = None

    def by_seed(self, arm: Arm) -> dict[int, float]:
        """The figures that are there, by seed."""
        figures = {run.seed: self.of(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if math.isfinite(figure)}

    def prompts_by_seed(self, arm: Arm) -> dict[int, PerPrompt]:
        """Empty where there is no figure by prompt."""
        if self.per_prompt is None:
            return {}
        figures = {run.seed: self.per_prompt(run) for run in arm.runs}
        return {seed: figure for seed, figure in figures.items() if figure}


FINAL_ACCURACY = Measure(
    "final_accuracy",
    "final accuracy",
    "%",
    accuracy(last),
    "{b} ends {size} {side} {a}",
    per_prompt=accuracy_by_prompt(last),
)
LATE_ACCURACY = Measure(
    "late_accuracy",
    "late accuracy",
    "%",
    accuracy(late),
    "over the last quarter {b} is {size} {side} {a}",
    per_prompt=accuracy_by_prompt(late),
)
EARLY_ACCURACY = Measure(
    "early_accuracy",
    "early accuracy",
    "%",
    accuracy(early),
    "over the first quarter {b} is {size} {side} {a}",
    per_prompt=accuracy_by_prompt(early),
)
LATE_REWARD = Measure(
    "late_reward",
    "late training reward, (1 + r) / 2",
    "%",
    # The paper plots (1 + r) / 2 of rewards of ±1, which is this: a share, whatever a wrong answer costs here.
    mean_of("rollout/acc", late, scale=100),
    "over the last quarter the training reward of {b} is {size} {side} that of {a}",
)
LATE_ENTROPY = Measure(
    "late_entropy",
    "late entropy",
    "nats a token",
    mean_of("train/entropy", late),
    "over the last quarter the entropy of {b} is {size} that of {a}",
    ratio=True,
)
LATE_KL = Measure(
    "late_kl",
    "late KL to the initial model",
    "nats a token",
    mean_of("train/kl_ref", late),
    "over the last quarter the KL of {b} is {size} that of {a}",
    ratio=True,
)
EARLY_KL = Measure(
    "early_kl",
    "early KL to the initial model",
    "nats a token",
    mean_of("train/kl_ref", early),
    "over the first quarter the KL of {b} is {size} that of {a}",
    ratio=True,
)
LATE_LENGTH = Measure("late_length", "late response length", "tokens", mean_of("rollout/length/mean", late), ratio=True)
SAMPLED_TOKENS = Measure("sampled_tokens", "sampled tokens", "tokens", total_of("train/tokens_total"), ratio=True)
TRAINED_TOKENS = Measure(
    "trained_tokens", "trained tokens", "tokens", total_of("train/tokens_trained_total"), ratio=True
)
SECONDS = Measure("seconds", "time", "s", seconds, ratio=True)
