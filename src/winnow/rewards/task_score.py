"""Problems that bring their scorer: the tasks of reasoning-gym. Their golds are JSON that names task, seed and index."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class TaskScore:
    """The task's own scorer, made binary: some of them give part of the score to any text that holds the answer, or to any text."""

    name: ClassVar[str] = "reasoning_gym"
    check: ClassVar[str] = "winnow.rewards.task_score:full_score"

    @property
    def settings(self) -> dict[str, str | float | bool]:
        return {}

    def settle(self, gold: str, answer: str) -> bool | None:
        return None

    def readable(self, gold: str) -> bool | None:
        return gold.startswith("{")


def full_score(gold: str, answer: str | None) -> bool:
    """Whether the scorer gives `answer` 1. For worker processes only: scorers raise, hang, and evaluate what they are given."""
    named = json.loads(gold)
    if answer is None:
        return True
    dataset = _task(named["task"], named["seed"], named["index"] + 1)
    return dataset.score_answer(answer, dataset[named["index"]]) == 1.0


@lru_cache(maxsize=256)
def _task(name: str, seed: int, size: int) -> "ProceduralDataset":
    from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

    return create_dataset(name, seed=seed, size=size)
