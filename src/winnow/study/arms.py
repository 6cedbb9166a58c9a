"""Names of arms: the paper's under its own, everything else by what was typed."""

from collections.abc import Sequence

from winnow.study.runs import StudyRun

TITLES = {
    "raft": "RAFT",
    "raftpp": "RAFT++",
    "raftpp_no_clip": "RAFT++ without clipping",
    "raftpp_clip_higher": "RAFT++ with clip-higher",
    "grpo": "GRPO",
    "reinforce": "Reinforce",
    "mean_zero": "Reinforce + mean zero",
    "remove_all_correct": "Reinforce + remove all correct",
    "remove_all_wrong": "Reinforce + remove all wrong",
    "reinforce_rej": "Reinforce-Rej",
    "remove_both_std": "Reinforce-Rej + std",
    "ppo": "PPO",
    "dpo": "Iterative DPO",
}
"""In the order in which arms are shown. Reinforce-Rej is the paper's "remove both" (arXiv 2504.11343, §5.1)."""
IDLE_SECTIONS = frozenset({"hydra", "resume", "logger", "checkpoint", "study"})
"""Sections of a configuration that reach no weight and no figure of a run."""
NO_PART_OF_A_LABEL = IDLE_SECTIONS | {"arm", "algo", "seed", "experiment", "hardware"}


def arm_title(label: str) -> str:
    """`grpo algo.clip.high=0.28` to `GRPO algo.clip.high=0.28`."""
    arm, *typed = label.split(" ")
    return " ".join([TITLES.get(arm, arm), *typed])


def arm_rank(label: str) -> tuple[int, str]:
    """Sorts labels into the order of `TITLES`, others behind them by alphabet."""
    order = list(TITLES)
    arm = label.split(" ")[0]
    return (order.index(arm) if arm in order else len(order), label)


def arm_labels(runs: Sequence[StudyRun]) -> list[str]:
    """The label of each run: its arm and the overrides that tell it from others; those that all runs share say nothing."""
    typed = [distinguishing_overrides(run.overrides) for run in runs]
    shared = set.intersection(*typed) if typed else set()
    return [" ".join([run.arm, *sorted(mine - shared)]) for run, mine in zip(runs, typed, strict=True)]


def override_key(override: str) -> str:
    """`optim.lr` of `++optim.lr=1e-4`."""
    return override.split("=")[0].lstrip("+~")


def distinguishing_overrides(overrides: Sequence[str]) -> set[str]:
    """What was typed beyond the arm: the overrides that change what a run computes, but not its seed or its experiment."""
    last = {override_key(override): override for override in overrides}  # of a key typed twice the last one counts
    return {override for key, override in last.items() if _head(key) not in NO_PART_OF_A_LABEL or _within_algo(key)}


def _head(key: str) -> str:
    """The first part of `algo.clip.high` and of `algo/clip`."""
    return key.split("@")[0].replace("/", ".").split(".")[0]


def _within_algo(key: str) -> bool:
    return _head(key) == "algo" and key != "algo"
