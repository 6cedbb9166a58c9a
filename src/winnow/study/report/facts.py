"""What was run, in words: headline, warnings, settings, and the command to run it again."""

import shlex
from collections.abc import Mapping, Sequence
from math import prod

from winnow.study.report.words import count
from winnow.study.settings import flat
from winnow.study.study import Study, StudyRun


def runs_of(study: Study) -> list[StudyRun]:
    return [run for arm in study.arms for run in arm.runs]


def title(study: Study) -> str:
    """`tiny on arithmetic`."""
    names = [
        " and ".join(dict.fromkeys(run.choices.get(group, "?") for run in runs_of(study)))
        for group in ("model", "dataset")
    ]
    return " on ".join(name for name in names if name) or "No finished run"


def scope(study: Study) -> str:
    """`13 arms × 5 seeds × 60 iterations: 65 runs.`"""
    runs = runs_of(study)
    seeds = sorted({len(arm.runs) for arm in study.arms})
    iterations = sorted({run.iterations for run in runs})
    if not runs:
        return "No finished run."
    parts = [count(len(study.arms), "arm"), _range(seeds, "seed"), _range(iterations, "iteration")]
    return f"{' × '.join(parts)}: {count(len(runs), 'finished run')}."


def warnings(study: Study) -> list[str]:
    """What keeps differences between arms from being the arms' own, and where there is no interval."""
    told = [f"Runs differ in more than their arm: {line}" for line in study.differences]
    single = [arm.title for arm in study.arms if len(arm.runs) == 1]
    if single:
        every = "Every arm has" if len(single) == len(study.arms) else f"{', '.join(single)}:"
        told.append(f"{every} one run only: no interval can be given, and no verdict; differences may be noise.")
    seeds = {arm.title: {run.seed for run in arm.runs} for arm in study.arms}
    if len(study.arms) > 1 and not set.intersection(*seeds.values()):
        told.append("No seed is common to all arms; arms without a common seed cannot be compared in pairs.")
    iterations = {run.iterations for run in runs_of(study)}
    if len(iterations) > 1:
        told.append(
            f"Runs ended after {min(iterations)} to {max(iterations)} iterations; final figures are of each run's own end, "
            "curves go as far as all seeds of an arm do."
        )
    return told


def seeds(study: Study) -> list[str]:
    """`0, 1, 2: RAFT, GRPO`: arms by the seeds that they ran with."""
    by_seeds: dict[str, list[str]] = {}
    for arm in study.arms:
        by_seeds.setdefault(", ".join(str(run.seed) for run in arm.runs), []).append(arm.title)
    return [
        f"{numbers}: {'every arm' if len(by_seeds) == 1 else ', '.join(titles)}" for numbers, titles in by_seeds.items()
    ]


def split_settings(study: Study) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Settings that all runs share, by dotted key; and those that differ between arms, with a value for each arm."""
    by_arm = [[flat(run.config) for run in arm.runs] for arm in study.arms]
    keys = dict.fromkeys(key for configs in by_arm for config in configs for key in config)
    values = {key: [_values(key, configs) for configs in by_arm] for key in keys}
    shared = {key: of_arms[0] for key, of_arms in values.items() if len(set(of_arms)) == 1}
    return shared, {key: of_arms for key, of_arms in values.items() if key not in shared}


def commands(study: Study) -> list[str]:
    """What to type to run it again: one sweep where the runs are a grid, else one for each arm."""
    runs = runs_of(study)
    whole = _sweep(runs)
    return [whole] if whole else [_sweep(arm.runs) or "\n".join(_single(run) for run in arm.runs) for arm in study.arms]


def _sweep(runs: Sequence[StudyRun]) -> str | None:
    """None where the runs are not the product of the values that they were given."""
    given = [_typed(run) for run in runs]
    if not given or any(one.keys() != given[0].keys() for one in given):
        return None
    values = {key: list(dict.fromkeys(one[key] for one in given)) for key in given[0]}
    if prod(map(len, values.values())) != len(runs):
        return None
    words = [f"{key}={','.join(choices)}" for key, choices in values.items()]
    return shlex.join(["python", "train.py", *(["-m"] if len(runs) > 1 else []), *words])


def _single(run: StudyRun) -> str:
    return shlex.join(["python", "train.py", *run.overrides])


def _typed(run: StudyRun) -> Mapping[str, str]:
    parts = (override.partition("=") for override in run.overrides)
    return {key: value for key, _, value in parts}


def _values(key: str, configs: Sequence[Mapping[str, object]]) -> str:
    values = [str(config[key]) if config.get(key) is not None else "–" for config in configs]
    return " / ".join(dict.fromkeys(values))


def _range(numbers: Sequence[int], noun: str) -> str:
    return count(numbers[0], noun) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} {noun}s"
