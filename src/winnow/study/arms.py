"""Labels, titles and order of the arms of a study.

A label is the arm or algorithm that was chosen and the overrides that tell it from other arms: `raftpp optim.lr=2e-5`.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

import yaml

from winnow.study.runs import StudyRun

ORDER = (
    "raft",
    "raftpp",
    "raftpp_no_clip",
    "raftpp_clip_higher",
    "grpo",
    "reinforce",
    "mean_zero",
    "remove_all_correct",
    "remove_all_wrong",
    "reinforce_rej",
    "remove_both_std",
    "ppo",
    "dpo",
)
"""Arms in the order in which tables and figures show them. Arms that are not listed follow in alphabetical order."""
IDLE_SECTIONS = frozenset({"hydra", "resume", "resume_force", "logger", "checkpoint", "study"}) | {
    "trainer",
    "callbacks",
    "task_name",
    "extras",
    "optimized_metric",
    "hparams_search",
}
"""Sections of a configuration that have no influence on the weights and metrics of a run."""
NO_PART_OF_A_LABEL = IDLE_SECTIONS | {"arm", "algo", "seed", "experiment", "hardware", "plugins"}


def arm_title(label: str, runs: Iterable[StudyRun] = ()) -> str:
    """A label with the arm's title in place of its name: `GRPO algo.clip.high=0.28` for `grpo algo.clip.high=0.28`.

    The title is `study.title` in the configuration of the arm's `runs`, else the one that `conf/arm/NAME.yaml` states
    (for runs that chose `algo=`, or that were made before arms had titles), else the name itself.
    """
    name, *typed = label.split(" ")
    own = (_title_in(run.config) for run in runs)
    title = next((title for title in own if title), None) or _packaged_title(name) or name
    return " ".join([title, *typed])


def _packaged_title(name: str) -> str | None:
    return _title_in(_packaged(name))


@cache
def choices_of_arm(name: str) -> tuple[str, ...]:
    """Dotted names of the groups from which `conf/arm/NAME.yaml` chooses, `algo` and its axes apart: `engine.alter`."""
    defaults = _packaged(name).get("defaults")
    entries = defaults if isinstance(defaults, list) else []
    chosen = [str(key) for entry in entries if isinstance(entry, Mapping) for key in entry]
    keys = [key.removeprefix("override ").strip("/").replace("/", ".") for key in chosen]
    return tuple(key for key in keys if key.split(".")[0] != "algo")


@cache
def _packaged(name: str) -> Mapping[str, object]:
    path = files("winnow") / "conf" / "arm" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _title_in(config: Mapping[str, object]) -> str | None:
    study = config.get("study")
    title = study.get("title") if isinstance(study, Mapping) else None
    return None if title is None else str(title)


def arm_rank(label: str) -> tuple[int, str]:
    """Sort key of labels: the order of `ORDER`, then the alphabet."""
    name = label.split(" ")[0]
    return (ORDER.index(name) if name in ORDER else len(ORDER), label)


def arm_labels(runs: Sequence[StudyRun]) -> list[str]:
    """The label of each run. Overrides that all runs share are left out.

    Where all runs have one algorithm, those that make it another stay: GRPO with another rule of clipping is not GRPO.
    Beside other algorithms they are a condition that all of them are compared under.
    """
    typed = [distinguishing_overrides(run.overrides) for run in runs]
    shared = set.intersection(*typed) if typed else set()
    if len({run.arm for run in runs}) == 1:
        shared = {override for override in shared if not _changes_a_rule(override)}
    return [" ".join([run.arm, *sorted(mine - shared)]) for run, mine in zip(runs, typed, strict=True)]


def override_key(override: str) -> str:
    """The key that an override sets: `optim.lr` for `++optim.lr=1e-4`."""
    return override.split("=")[0].lstrip("+~")


def distinguishing_overrides(overrides: Sequence[str]) -> set[str]:
    """The overrides, apart from arm, algorithm, seed and experiment, that change what a run computes."""
    last = {override_key(override): override for override in overrides}  # if a key was typed twice, the last one counts
    return {override for key, override in last.items() if _head(key) not in NO_PART_OF_A_LABEL or _within_algo(key)}


def _head(key: str) -> str:
    """The first part of `algo.clip.high` and of `algo/clip`."""
    return key.split("@")[0].replace("/", ".").split(".")[0]


def _changes_a_rule(override: str) -> bool:
    """Whether an override chooses another function for an axis of the algorithm, such as `algo/clip=none`."""
    key = override_key(override)
    return _within_algo(key) and ("/" in key or key.endswith("._target_"))


def _within_algo(key: str) -> bool:
    return _head(key) == "algo" and key != "algo"
