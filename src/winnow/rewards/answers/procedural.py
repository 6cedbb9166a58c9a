"""Scorers of reasoning-gym's procedural tasks, as a worker process calls them.

The package takes seconds to import on a busy machine: a worker imports this module before it says that it is ready, so
that they do not count against the time of its first answer.
"""

import json
from functools import lru_cache

from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]
from reasoning_gym.dataset import ProceduralDataset  # pyright: ignore[reportMissingImports]


def full_score(gold: str, answer: str | None) -> bool:
    """Whether the task's scorer gives `answer` a score of 1.

    `gold` is JSON with the task's name, seed, index and options. Only worker processes may call it: scorers raise,
    hang, and evaluate what they are given.
    """
    problem = json.loads(gold)
    if answer is None:
        return True
    options = json.dumps(problem.get("options", {}))
    dataset = _task(problem["task"], problem["seed"], problem["index"] + 1, options)
    return dataset.score_answer(answer, dataset[problem["index"]]) == 1.0


@lru_cache(maxsize=256)
def _task(name: str, seed: int, size: int, options: str) -> ProceduralDataset:
    return create_dataset(name, seed=seed, size=size, **json.loads(options))
