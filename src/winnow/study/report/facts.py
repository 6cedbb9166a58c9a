"""How the report's intervals are made, for a reader who knows some statistics."""

import shlex
from collections.abc import Mapping, Sequence
from math import prod

from winnow.study.runs import StudyRun
from winnow.study.study import Study, flat_settings

STATISTICS = (
    "A run is one observation: intervals are over seeds, Student's t, 95 %, however many prompts or iterations a run has. They "
    "say what other seeds would give with the same prompts; intervals over prompts, where given, are about other prompts with "
    "these seeds.",
    "Arms are compared in pairs, seed by seed: runs of one seed see the same prompts and, while their policies agree, the same "
    "samples, so that what a seed brings to both cancels. Entropies and KLs are compared by their ratio, on logarithms.",
    "Late is the last quarter of a run's iterations, early the first one; the report does not pick its windows.",
    "Claims of one table or figure that something is greater or less are tested together: their p-values are "
    "adjusted by Holm's method, so that a false claim among them is made in 5 % of such families at most.",
    "Inside noise: the test, so adjusted, does not tell the difference from none. It is not evidence of no difference; the "
    "sentence says how large a difference would have been found four times in five.",
    "“About the same” and “no greater” hold only where the whole interval lies within a margin that was set before any run: 2 "
    "points, or a factor of 1.25.",
    "Bands around curves hold point by point, not for a whole curve. Two runs that measured the same, or a single one, give no "
    "interval: figures then show the mean alone, hollow.",
)
AT_ITS_BEST = (
    "Each algorithm at the best of its own settings of the optimiser. A seed's setting is the one with the best late accuracy over "
    "the other seeds, so that the luck that picks a setting is not counted again when it is judged."
)


def signed(value: float, places: int = 1) -> str:
    """`+1.5`, `−0.3`."""
    return f"{value:+.{places}f}".replace("-", "−")


def interval_words(low: float, high: float, places: int = 1) -> str:
    """`(−0.3 to 1.2)`: with a dash it could not be told from a minus sign."""
    return f"({low:.{places}f} to {high:.{places}f})".replace("-", "−")


def counted_noun(number: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def with_bound_percent(text: str) -> str:
    """With per cent signs held to their numbers, where a line may break."""
    return text.replace(" %", "\u00a0%")


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
    """`13 arms × 5 seeds × 60 iterations: 65 runs.`"""
    runs = runs_of(study)
    seeds = sorted({len(arm.runs) for arm in study.arms})
    iterations = sorted({run.iterations for run in runs})
    if not runs:
        return "No finished run."
    parts = [counted_noun(len(study.arms), "arm"), _count_range(seeds, "seed"), _count_range(iterations, "iteration")]
    return f"{' × '.join(parts)}: {counted_noun(len(runs), 'finished run')}."


def warnings_of(study: Study) -> list[str]:
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


def seeds_by_arm(study: Study) -> list[str]:
    """`0, 1, 2: RAFT, GRPO`: arms by the seeds that they ran with."""
    by_seeds: dict[str, list[str]] = {}
    for arm in study.arms:
        by_seeds.setdefault(", ".join(str(run.seed) for run in arm.runs), []).append(arm.title)
    return [
        f"{numbers}: {'every arm' if len(by_seeds) == 1 else ', '.join(titles)}" for numbers, titles in by_seeds.items()
    ]


def split_settings(study: Study) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Settings that all runs share, by dotted key; and those that differ between arms, with a value for each arm."""
    by_arm = [[flat_settings(run.config) for run in arm.runs] for arm in study.arms]
    keys = dict.fromkeys(key for configs in by_arm for config in configs for key in config)
    values = {key: [_values(key, configs) for configs in by_arm] for key in keys}
    shared = {key: of_arms[0] for key, of_arms in values.items() if len(set(of_arms)) == 1}
    return shared, {key: of_arms for key, of_arms in values.items() if key not in shared}


def rerun_commands(study: Study) -> list[str]:
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


def _count_range(numbers: Sequence[int], noun: str) -> str:
    return counted_noun(numbers[0], noun) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} {noun}s"
