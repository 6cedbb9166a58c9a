"""Facts about a study beside its figures: scope, warnings, seeds, settings, and the commands that repeat it."""

import shlex
from collections.abc import Mapping, Sequence
from math import prod

from winnow.run_logs.objective_file import Objective
from winnow.run_logs.outcome import never_updated
from winnow.study.measures import FINAL_ACCURACY, START_ACCURACY
from winnow.study.runs import FailedJob, StudyRun
from winnow.study.study import Arm, Study, flat_settings


def counted_noun(number: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def runs_of(study: Study) -> list[StudyRun]:
    return [run for arm in study.arms for run in arm.runs]


def study_title(study: Study) -> str:
    """`tiny on arithmetic`."""
    names = [
        " and ".join(dict.fromkeys(run.choices.get(group, "?") for run in runs_of(study)))
        for group in ("model", "dataset")
    ]
    return " on ".join(name for name in names if name) or "No finished run"


def study_scope(study: Study) -> str:
    """`13 arms × 5 seeds × 60 iterations: 65 finished runs.`"""
    runs = runs_of(study)
    if not runs:
        return "No finished run."
    seeds = sorted({len(arm.runs) for arm in study.arms})
    iterations = sorted({run.iterations for run in runs})
    parts = [counted_noun(len(study.arms), "arm"), _count_range(seeds, "seed"), _count_range(iterations, "iteration")]
    return f"{' × '.join(parts)}: {counted_noun(len(runs), 'finished run')}."


def shortfalls(study: Study) -> list[str]:
    """Sentences on runs that made no update or ended below their start, by arm: what a reader has to know first."""
    return [line for arm in study.arms for line in (_not_updated(arm), _below_start(arm)) if line]


def left_out(study: Study) -> list[tuple[str, list[FailedJob]]]:
    """Headings with the jobs below them: those that failed, and those that have not ended."""
    failed, unended = ([job for job in study.failed if job.has_ended is ended] for ended in (True, False))
    headings = (
        (failed, "{} failed and is left out", "{} failed and are left out"),
        (unended, "{} has not ended and is left out", "{} have not ended and are left out"),
    )
    return [
        ((one if len(jobs) == 1 else more).format(counted_noun(len(jobs), "job")), jobs)
        for jobs, one, more in headings
        if jobs
    ]


def _not_updated(arm: Arm) -> str | None:
    seeds = [str(run.seed) for run in arm.runs if never_updated(run.rows)]
    if not seeds:
        return None
    return f"{arm.title}: no update was made in {_part_of(arm, seeds)}: the weights are those of the start."


def _below_start(arm: Arm) -> str | None:
    before, after = START_ACCURACY.by_seed(arm), FINAL_ACCURACY.by_seed(arm)
    falls = {seed: (before[seed], end) for seed, end in after.items() if seed in before and end < before[seed]}
    if not falls:
        return None
    seeds = [f"{seed}: {start:.1f} → {end:.1f} %" for seed, (start, end) in falls.items()]
    return f"{arm.title}: held-out accuracy ended below its start in {_part_of(arm, seeds)}."


def _part_of(arm: Arm, seeds: Sequence[str]) -> str:
    """`2 of 5 runs (seed 0; seed 3)`."""
    which = "; ".join(f"seed {seed}" for seed in seeds)
    return f"{len(seeds)} of {counted_noun(len(arm.runs), 'run')} ({which})"


def merged_arms(study: Study) -> list[str]:
    """A sentence for each arm that was not run in some seeds, because it trains what another one trains."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for job in study.merged:
        seeds.setdefault((job.overrides, job.other), []).append(job.seed)
    return [
        f"Not run: {arm} with seed {', '.join(sorted(of))}. It trains what {other} trains, up to rounding, and that "
        "run stands for it."
        for (arm, other), of in seeds.items()
    ]


def warnings_of(study: Study) -> list[str]:
    """Sentences on differences between arms that are not the arms' own, changed settings, and missing intervals."""
    warnings = [f"Runs differ in more than their arm: {line}" for line in study.differences]
    warnings += merged_arms(study)
    warnings += [
        f"A resume changed settings of {run.directory}: {'; '.join(run.changes)}."
        for run in runs_of(study)
        if run.changes
    ]
    single = [arm.title for arm in study.arms if len(arm.runs) == 1]
    if single:
        every = "Every arm has" if len(single) > 1 else "There is"
        arms = every if len(single) == len(study.arms) else f"With {', '.join(single)} there is"
        warnings.append(f"{arms} one run only: no interval and no verdict can be given, and differences may be noise.")
    seeds = [{run.seed for run in arm.runs} for arm in study.arms]
    if len(seeds) > 1 and not set.intersection(*seeds):
        warnings.append("No seed is common to all arms. Arms without a common seed cannot be compared in pairs.")
    iterations = {run.iterations for run in runs_of(study)}
    if len(iterations) > 1:
        warnings.append(
            f"Runs ended after {min(iterations)} to {max(iterations)} iterations. Final figures are of each run's own "
            "end, and an arm's curve goes as far as all of its seeds do."
        )
    return warnings


def seeds_by_arm(study: Study) -> list[str]:
    """Arms by the seeds that they ran with: `0, 1, 2: RAFT, GRPO`."""
    by_seeds: dict[str, list[str]] = {}
    for arm in study.arms:
        by_seeds.setdefault(", ".join(str(run.seed) for run in arm.runs), []).append(arm.title)
    return [f"{seeds}: {'every arm' if len(by_seeds) == 1 else ', '.join(arms)}" for seeds, arms in by_seeds.items()]


def objectives(study: Study) -> list[tuple[str, Objective]]:
    """Titles of arms with the objective that their runs have in common, in the order of the arms."""
    titles: dict[Objective, list[str]] = {}
    for arm in study.arms:
        for objective in dict.fromkeys(run.objective for run in arm.runs if run.objective.formula):
            titles.setdefault(objective, []).append(arm.title)
    return [(", ".join(arms), objective) for objective, arms in titles.items()]


def split_settings(study: Study) -> tuple[dict[str, str], dict[str, dict[str, list[str]]]]:
    """Settings by dotted key: those that all runs share, and those that differ, with the titles of the arms that have
    each value."""
    by_arm = [[flat_settings(run.config) for run in arm.runs] for arm in study.arms]
    keys = dict.fromkeys(key for configs in by_arm for config in configs for key in config)
    values = {key: [_values(key, configs) for configs in by_arm] for key in keys}
    shared = {key: of_arms[0] for key, of_arms in values.items() if len(set(of_arms)) == 1}
    return shared, {key: _arms_by_value(study, of_arms) for key, of_arms in values.items() if key not in shared}


def _arms_by_value(study: Study, values: Sequence[str]) -> dict[str, list[str]]:
    by_value: dict[str, list[str]] = {}
    for arm, value in zip(study.arms, values, strict=True):
        by_value.setdefault(value, []).append(arm.title)
    return by_value


def rerun_commands(study: Study) -> list[str]:
    """Commands that run the study again: one sweep if the runs are a grid, otherwise one or more for each arm."""
    whole = _sweep(runs_of(study))
    return [whole] if whole else [_sweep(arm.runs) or _one_by_one(arm.runs) for arm in study.arms]


def _one_by_one(runs: Sequence[StudyRun]) -> str:
    return "\n".join(shlex.join(["winnow", "train", *run.overrides]) for run in runs)


def _sweep(runs: Sequence[StudyRun]) -> str | None:
    """One command for all runs; None if the runs are not the product of their overrides' values."""
    typed = [{key: value for key, _, value in (word.partition("=") for word in run.overrides)} for run in runs]
    if not typed or any(run_words.keys() != typed[0].keys() for run_words in typed):
        return None
    values = {key: list(dict.fromkeys(run_words[key] for run_words in typed)) for key in typed[0]}
    if prod(map(len, values.values())) != len(runs):
        return None
    words = [f"{key}={','.join(choices)}" for key, choices in values.items()]
    return shlex.join(["winnow", "train", *(["-m"] if len(runs) > 1 else []), *words])


def _values(key: str, configs: Sequence[Mapping[str, object]]) -> str:
    values = [_typed(config[key]) if config.get(key) is not None else "–" for config in configs]
    return " / ".join(dict.fromkeys(values))


def _typed(value: object) -> str:
    """The value as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count_range(numbers: Sequence[int], noun: str) -> str:
    return counted_noun(numbers[0], noun) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} {noun}s"
