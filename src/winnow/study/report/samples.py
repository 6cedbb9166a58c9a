"""Sampled responses of a report: some of one seed of each arm, from `samples/*.jsonl`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from winnow.errors import ConfigError
from winnow.run_logs.run_files import RunFiles, SampleRecord, read_samples
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
    text = str(text)  # a file that was edited may have a number there
    if len(text) > HEAD + TAIL + 40:
        text = f"{text[:HEAD]}\n[… {len(text) - HEAD - TAIL} characters left out …]\n{text[-TAIL:]}"
    return text


def advantage_strength(record: SampleRecord, group: Sequence[SampleRecord]) -> float:
    """Size of the advantage, from 0 to 1, relative to the largest in the group."""
    largest = max(abs(other.advantage or 0.0) for other in group)
    return abs(record.advantage or 0.0) / largest if largest else 0.0


def reward_in_words(record: SampleRecord) -> str:
    """`reward 0.85 (accuracy 1, close −0.3)`, or why there is none."""
    if record.lost is not None:
        return f"no reward: {record.lost}"
    if record.reward is None:
        return "no finite reward"
    parts = [f"{name} {'none' if part is None else _number(part)}" for name, part in (record.rewards or {}).items()]
    return f"reward {_number(record.reward)}" + (f" ({', '.join(parts)})" if parts else "")


def _number(number: float) -> str:
    return f"{number:g}".replace("-", "−")


def _sampled_arm(arm: Arm) -> SampledArm | None:
    for run in arm.runs:
        files = list(RunFiles(run.directory).sample_files().items())
        if files:
            chosen = dict([files[0], files[(len(files) - 1) // 2], files[-1]])
            name = f"{run.directory.parent.name}/{run.directory.name}"
            return SampledArm(
                arm.title, run.seed, name, tuple(_read_iteration(number, path) for number, path in chosen.items())
            )
    return None


def _read_iteration(number: int, path: Path) -> SampledIteration:
    try:
        records = read_samples(path, MAX_RESPONSES)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not the samples of a run; remove the file, or leave the run out") from error
    if not all(isinstance(record.rewards or {}, Mapping) for record in records):
        raise ConfigError(f"{path}: rewards are not numbers by name")
    numbers = [
        x
        for record in records
        for x in (record.reward, record.advantage, record.length, *(record.rewards or {}).values())
        if x is not None
    ]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ConfigError(f"{path}: a reward, an advantage or a length is not a number")
    prompts = groupby(records, key=lambda record: record.prompt_key)
    return SampledIteration(number, tuple(tuple(group) for _, group in prompts))
