"""Study: arms of finished runs, and the settings in which runs differ beside their arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from pathlib import Path

from winnow.errors import ConfigError
from winnow.run_logs.plugin_code import SHOWN, edited_modules
from winnow.study.arms import IDLE_SECTIONS, arm_labels, arm_rank, arm_title, choices_of_arm, override_key
from winnow.study.runs import (
    FailedJob,
    MergedJob,
    StudyRun,
    failed_jobs,
    merged_jobs,
    read_run,
    run_directories,
    run_status,
)

NO_EFFECT = IDLE_SECTIONS | {"seed", "hardware"}
"""Sections of a configuration that a comparison ignores: seeds are repetitions, the rest does not affect results."""


def differing_keys(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """Dotted keys in which two configurations differ, outside the sections `NO_EFFECT`. A missing key is null."""
    flat_a, flat_b = flat_settings(a), flat_settings(b)
    return [key for key in dict.fromkeys([*flat_a, *flat_b]) if flat_a.get(key) != flat_b.get(key)]


def setting_differences(by_label: Mapping[str, Sequence[StudyRun]]) -> tuple[str, ...]:
    """A line for each setting that varies between arms (outside `algo`) or within an arm, and that neither a label nor
    the choices of an arm's own file name."""
    in_labels = {override_key(typed).replace("/", ".") for label in by_label for typed in label.split(" ")[1:]}
    arms = {run.choices["arm"] for runs in by_label.values() for run in runs if run.choices.get("arm")}
    in_labels |= {key for arm in arms for key in choices_of_arm(arm)}
    configs = [(label, flat_settings(run.config)) for label, runs in by_label.items() for run in runs]
    keys = dict.fromkeys(key for _, config in configs for key in config)
    lines = (
        _difference_line(key, [(label, config.get(key)) for label, config in configs])
        for key in keys
        if not _under(key, in_labels)
    )
    return tuple(line for line in lines if line)


def flat_settings(node: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Flat configuration, `{"rollout.prompts": 64}` for `{"rollout": {"prompts": 64}}`. Lists are values; the sections
    `NO_EFFECT` are left out."""
    leaves: dict[str, object] = {}
    for key, value in node.items():
        if not prefix and key in NO_EFFECT:
            continue
        leaves |= (
            flat_settings(value, f"{prefix}{key}.")
            if isinstance(value, Mapping) and value
            else {f"{prefix}{key}": value}
        )
    return leaves


def code_differences(by_label: Mapping[str, Sequence[StudyRun]]) -> tuple[str, ...]:
    """A line for each module of a plug-in whose code is not the same in all runs that have it."""
    modules = [
        (name, label, of_file[:SHOWN])
        for label, runs in by_label.items()
        for run in runs
        for name, of_file in run.code.items()
    ]
    lines = (
        _difference_line(f"code of {name}", [(label, of_file) for other, label, of_file in modules if other == name])
        for name in dict.fromkeys(name for name, _, _ in modules)
    )
    return tuple(line for line in lines if line)


def _difference_line(key: str, values: Sequence[tuple[str, object]]) -> str | None:
    """`rollout.samples: 8 in Iterative DPO, 4 elsewhere`."""
    within = [label for label in dict.fromkeys(label for label, _ in values) if len(_distinct(values, label)) > 1]
    if within:
        by_arm = (f"{' and '.join(_distinct(values, label))} within {arm_title(label)}" for label in within)
        return f"{key}: {'; '.join(by_arm)}"
    if key.split(".")[0] == "algo" or len(_distinct(values)) == 1:
        return None
    by_value = {
        value: dict.fromkeys(arm_title(label) for label, x in values if _value_text(x) == value)
        for value in _distinct(values)
    }
    *few, (common, _) = sorted(by_value.items(), key=lambda item: len(item[1]))
    return f"{key}: " + ", ".join(
        [*(f"{value} in {', '.join(titles)}" for value, titles in few), f"{common} elsewhere"]
    )


def _distinct(values: Sequence[tuple[str, object]], arm: str | None = None) -> list[str]:
    return list(dict.fromkeys(_value_text(value) for label, value in values if arm in (None, label)))


def _value_text(value: object) -> str:
    return "null" if value is None else str(value)


def _under(key: str, prefixes: set[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


UNTIMED = ("time/", "perf/")
"""Prefixes of metrics that differ between two runs with the same seed."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Finished runs that differ in their seed only, sorted by it."""

    label: str
    title: str
    runs: tuple[StudyRun, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """Arms of a comparison in the order of `arm_rank`, the jobs that failed, and those that other runs stand for.

    `differences` has a line for everything that makes arms less comparable than they look: each setting in which runs
    differ although their arms' labels do not name it, and seeds of an arm with identical results.
    """

    directories: tuple[Path, ...]
    arms: tuple[Arm, ...]
    failed: tuple[FailedJob, ...]
    differences: tuple[str, ...] = ()
    merged: tuple[MergedJob, ...] = ()

    def arm(self, label: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.label == label), None)


def read_study(directories: Sequence[Path]) -> Study:
    """The study of all runs at any depth under `directories`. A directory that is reached twice counts once.

    Raises:
        ConfigError: a directory does not exist; none contains a run; a run cannot be read; an arm has the same run
            twice, or two different runs with one seed.
    """
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"{directory}: no such directory; name runs or sweeps, such as multirun/DAY/TIME")
    run_paths = run_directories(directories)
    failed = failed_jobs(directories, run_paths)
    done = [read_run(directory) for directory in run_paths if run_status(directory) == "done"]
    if not done and not failed:
        raise ConfigError(f"{', '.join(map(str, directories))}: no run found there; name runs or sweeps")
    done = [replace(run, arm=label) for run, label in zip(done, arm_labels(done), strict=True)]
    done.sort(key=lambda run: (arm_rank(run.arm), run.seed))
    by_label = {label: list(of_arm) for label, of_arm in groupby(done, key=lambda run: run.arm)}
    for label, of_arm in by_label.items():
        _refuse_pooling(label, of_arm)
    finished = {run.directory.resolve() for run in done}
    repeated = [line for of_arm in by_label.values() for line in _repetitions(of_arm)]
    return Study(
        directories=tuple(directories),
        arms=tuple(Arm(label, arm_title(label, of_arm), tuple(of_arm)) for label, of_arm in by_label.items()),
        failed=failed,
        differences=(*setting_differences(by_label), *code_differences(by_label), *repeated),
        merged=tuple(job for job in merged_jobs(directories) if job.directory.resolve() in finished),
    )


def _refuse_pooling(label: str, runs: Sequence[StudyRun]) -> None:
    """Refuse two runs of one arm and seed. A copy counted as a further run would make intervals too narrow, and runs
    with different settings are different arms."""
    for a, b in combinations(runs, 2):
        if a.seed != b.seed:
            continue
        both = f"{a.directory} and {b.directory}"
        if keys := differing_keys(a.config, b.config):
            raise ConfigError(
                f"two runs of {label} with seed {a.seed} differ in {', '.join(keys[:3])}: {both}; report them apart"
            )
        if modules := edited_modules(a.code, b.code):
            raise ConfigError(
                f"two runs of {label} with seed {a.seed} differ in the code of {', '.join(modules[:3])}: {both}; "
                "report them apart"
            )
        raise ConfigError(f"the same run of {label} with seed {a.seed} twice: {both}; name only one of them")


def _repetitions(runs: Sequence[StudyRun]) -> list[str]:
    """A line for each pair of seeds with identical results: the second is no evidence about the noise between seeds."""
    known = [(run, _comparable_rows(run)) for run in runs if run.rows]
    return [
        f"{arm_title(a.arm, [a])}: seeds {a.seed} and {b.seed} have identical metrics ({a.directory}, {b.directory})"
        for (a, rows_a), (b, rows_b) in combinations(known, 2)
        if rows_a == rows_b
    ]


def _comparable_rows(run: StudyRun) -> list[str]:
    """The run's rows without times, as text, because NaN equals NaN only there."""
    return [repr([(key, x) for key, x in row.items() if not key.startswith(UNTIMED)]) for row in run.rows]
