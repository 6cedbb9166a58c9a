"""Runs of a study, by arm and seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from pathlib import Path

from winnow.errors import ConfigError
from winnow.study import arms
from winnow.study.directories import failed_jobs, run_directories
from winnow.study.runs import Counts, FailedJob, StudyRun, read_run, status
from winnow.study.settings import differences, differing

__all__ = ["Arm", "Counts", "FailedJob", "Study", "StudyRun", "read"]

UNTIMED = ("time/", "perf/")
"""Figures that differ between two runs of one seed."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared: finished runs that differ by their seed, sorted by it."""

    label: str
    title: str
    runs: tuple[StudyRun, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """Arms in the order of `arms.TITLES`, others behind them.

    `differences` has a line for whatever makes arms less comparable than they look: each setting in which runs differ without
    a word of it in their arm's label, and seeds that measured the same.
    """

    directories: tuple[Path, ...]
    arms: tuple[Arm, ...]
    failed: tuple[FailedJob, ...]
    differences: tuple[str, ...] = ()

    def arm(self, label: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.label == label), None)


def read(directories: Sequence[Path]) -> Study:
    """The runs at any depth under `directories`; a directory reached twice counts once.

    Raises:
        ConfigError: no such directory; no run in any; a run that cannot be read; an arm with the same run twice, or with two
            different runs of a seed.
    """
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"{directory}: no such directory; name runs or sweeps, such as multirun/DAY/TIME")
    found = run_directories(directories)
    failed = failed_jobs(directories, found)
    done = [read_run(directory) for directory in found if status(directory) == "done"]
    if not done and not failed:
        raise ConfigError(f"{', '.join(map(str, directories))}: no run in it; name runs or sweeps")
    done = [replace(run, arm=label) for run, label in zip(done, arms.labels(done), strict=True)]
    done.sort(key=lambda run: (arms.rank(run.arm), run.seed))
    by_label = {label: list(of_arm) for label, of_arm in groupby(done, key=lambda run: run.arm)}
    for label, of_arm in by_label.items():
        _refuse_pooling(label, of_arm)
    repeated = [line for of_arm in by_label.values() for line in _repetitions(of_arm)]
    return Study(
        directories=tuple(directories),
        arms=tuple(Arm(label, arms.title(label), tuple(of_arm)) for label, of_arm in by_label.items()),
        failed=failed,
        differences=(*differences(by_label), *repeated),
    )


def _refuse_pooling(label: str, runs: Sequence[StudyRun]) -> None:
    """A copy counted as a further run would narrow an interval; two settings under one name would blur it."""
    for a, b in combinations(runs, 2):
        if a.seed != b.seed:
            continue
        both = f"{a.directory} and {b.directory}"
        if keys := differing(a.config, b.config):
            raise ConfigError(
                f"two runs of {label} with seed {a.seed} differ in {', '.join(keys[:3])}: {both}; report them apart"
            )
        raise ConfigError(f"the same run twice, {label} with seed {a.seed}: {both}; name one of them")


def _repetitions(runs: Sequence[StudyRun]) -> list[str]:
    """A line for each pair of seeds that measured the same: the second tells nothing of noise."""
    known = [(run, _figures(run)) for run in runs if run.rows]
    return [
        f"{arms.title(a.arm)}: seeds {a.seed} and {b.seed} measured the same throughout ({a.directory}, {b.directory})"
        for (a, of_a), (b, of_b) in combinations(known, 2)
        if of_a == of_b
    ]


def _figures(run: StudyRun) -> list[str]:
    """As text, in which NaN is NaN."""
    return [repr([(key, x) for key, x in row.items() if not key.startswith(UNTIMED)]) for row in run.rows]
