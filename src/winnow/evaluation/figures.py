"""What the samples of a set come to, with 95 % intervals over prompts."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from winnow.evaluation.majority import majority_at_k
from winnow.evaluation.sample import Sample
from winnow.evaluation.statistics import Interval, accuracy, clustered_mean, pass_at_k
from winnow.rewards.literal import clean

Settings = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class SetFigures:
    """`accuracy` is avg@k for k = `samples`; lengths are in tokens; `verifier` is the one that judged, with its settings."""

    name: str
    prompts: int
    whole: int
    samples: int
    accuracy: Interval
    pass_at: dict[int, Interval]
    majority: Interval
    length: Interval
    truncated: Interval
    verdicts: dict[str, int]
    verifier: Settings


def by_prompt(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Groups of equal size, in the order of the file."""
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.prompt_key)]


def powers_of_two(most: int) -> list[int]:
    """`[1, 2, 4, 8]` for 8, `[1, 2, 3]` for 3: the k of pass@k, the last always the number of samples."""
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})


def correct_of(groups: Sequence[Sequence[Sample]]) -> np.ndarray:
    """(P, G) of bool."""
    return np.array([[sample.correct for sample in group] for group in groups])


def figures(name: str, samples: Sequence[Sample], whole: int, verifier: Settings) -> SetFigures:
    groups = by_prompt(samples)
    correct = correct_of(groups)
    answers = [[None if s.extracted is None else clean(s.extracted) for s in group] for group in groups]
    return SetFigures(
        name=name,
        prompts=len(groups),
        whole=whole,
        samples=correct.shape[1],
        accuracy=accuracy(correct),
        pass_at={k: pass_at_k(correct, k) for k in powers_of_two(correct.shape[1])},
        majority=majority_at_k(answers, correct),
        length=clustered_mean(np.array([[s.length for s in group] for group in groups], dtype=float)),
        truncated=accuracy(np.array([[s.truncated for s in group] for group in groups])),
        verdicts=dict(Counter(s.verdict for s in samples).most_common()),
        verifier=verifier,
    )


def average(sets: Sequence[SetFigures]) -> Interval:
    """The plain mean of the sets' accuracies (paper section 4); sets are independent, so half-widths add in squares."""
    centre = sum(s.accuracy.estimate for s in sets) / len(sets)
    low = math.hypot(*(s.accuracy.estimate - s.accuracy.low for s in sets)) / len(sets)
    high = math.hypot(*(s.accuracy.high - s.accuracy.estimate for s in sets)) / len(sets)
    return Interval(centre, centre - low, centre + high)


def table(sets: Sequence[SetFigures]) -> str:
    """Markdown: a row a set, per cent with intervals, and their average where there are several."""
    lines = [
        "| set | prompts | k | avg@k | pass@k | maj@k | mean length | truncated | no answer | verifier |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in sets:
        drawn = s.prompts * s.samples
        part = f"{s.prompts}" if s.prompts == s.whole else f"{s.prompts} of {s.whole}"
        cells = [
            s.name,
            part,
            str(s.samples),
            percent(s.accuracy),
            percent(s.pass_at[s.samples]),
            percent(s.majority),
            f"{s.length.estimate:.0f}",
            f"{s.truncated.estimate:.1%}",
            f"{s.verdicts.get('no_answer', 0) / drawn:.1%}",
            described(s.verifier),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if len(sets) > 1:
        lines.append(f"| average | | | {percent(average(sets))} | | | | | | |")
    return "\n".join(lines)


def percent(interval: Interval) -> str:
    """`81.3 (79.9–82.6)`."""
    return f"{interval.estimate:.1%}"[:-1] + f" ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def described(verifier: Settings) -> str:
    """`numeric (relative 0.0001)`."""
    inside = ", ".join(f"{key} {value}" for key, value in verifier.items() if key != "name")
    return f"{verifier['name']} ({inside})" if inside else str(verifier["name"])
