"""Sampled responses of a report: some of one seed of each arm, from `samples/*.jsonl`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from winnow.run_logs.run_files import SampleRecord, read_samples
from winnow.study.study import Arm, Study

MAX_RESPONSES, HEAD, TAIL = 24, 420, 260
"""Responses shown of an iteration, and characters kept at the start and, for the answer, at the end of a long one."""


@dataclass(frozen=True, slots=True)
class SampledIteration:
    """The first responses of an iteration in the order in which they were drawn, grouped by prompt."""

    iteration: int
    prompts: tuple[tuple[SampleRecord, ...], ...]

    @property
    def responses(self) -> list[SampleRecord]:
        return [record for group in self.prompts for record in group]


@dataclass(frozen=True, slots=True)
class SampledArm:
    """The first, middle and last recorded iteration of the arm's first seed that has samples."""

    title: str
    seed: int
    run_name: str
    iterations: tuple[SampledIteration, ...]


def sampled_arms(study: Study) -> list[SampledArm]:
    """The arms of which a run has samples."""
    return [sampled for arm in study.arms if (sampled := _sampled_arm(arm))]


def excerpt(text: str) -> str:
    """The text without the middle if it is long."""
    if len(text) > HEAD + TAIL + 40:
        text = f"{text[:HEAD]}\n[… {len(text) - HEAD - TAIL} characters left out …]\n{text[-TAIL:]}"
    return text


def advantage_strength(record: SampleRecord, group: Sequence[SampleRecord]) -> float:
    """Size of the advantage, from 0 to 1, relative to the largest in the group."""
    largest = max(abs(other.advantage or 0.0) for other in group)
    return abs(record.advantage or 0.0) / largest if largest else 0.0


def _sampled_arm(arm: Arm) -> SampledArm | None:
    for run in arm.runs:
        files = sorted((run.directory / "samples").glob("iteration_*.jsonl"))
        if files:
            chosen = dict.fromkeys((files[0], files[(len(files) - 1) // 2], files[-1]))
            name = f"{run.directory.parent.name}/{run.directory.name}"
            return SampledArm(arm.title, run.seed, name, tuple(_read_iteration(path) for path in chosen))
    return None


def _read_iteration(path: Path) -> SampledIteration:
    prompts = groupby(read_samples(path, MAX_RESPONSES), key=lambda record: record.prompt_key)
    return SampledIteration(int(path.stem.removeprefix("iteration_")), tuple(tuple(group) for _, group in prompts))
