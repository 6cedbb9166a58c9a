"""Procedural tasks of the package reasoning-gym, as problems whose gold says how to rebuild the task's scorer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from winnow.data.problems import BadGolds, Overlap, Problem, ProblemSet
from winnow.errors import ConfigError

TASKS = frozenset(Path(__file__).with_name("reasoning_gym_tasks.txt").read_text(encoding="utf-8").split())
"""Tasks of reasoning-gym 0.1.25 whose scorer can be trusted: the task's own answer, in a box, scores 1, and an empty
answer, nonsense and the text of the problem score less. Left out: ab, boxnet, graph_color, propositional_logic,
rubiks_cube and rush_hour (they give no answer); acre (its problem n depends on the number of problems); coin_flip,
polynomial_equations and power_function (0 or 1 is often right); game_of_life_halting (anything scores 1); gsm_symbolic
(the text of the problem scores 1); composite (a mixture)."""


@dataclass(frozen=True)
class ReasoningGym:
    """Dataset of `train_size` problems of each task, and the next `heldout_size` of the task's stream held out."""

    tasks: Sequence[str]
    seed: int
    train_size: int
    heldout_size: int
    overlap: Overlap

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """Training and held-out problems, task by task.

        Raises:
            ConfigError: the package is not installed, or a task is not one of `TASKS`.
        """
        if find_spec("reasoning_gym") is None:
            raise ConfigError("dataset=reasoning_gym: package not installed; type pip install 'winnow-rl[tasks]'")
        for task in self.tasks:
            if task not in TASKS:
                near = ", ".join(get_close_matches(task, TASKS) or sorted(TASKS))
                raise ConfigError(
                    f"dataset.tasks: {task} is not on the list of tasks with a reliable scorer; try {near}"
                )
        last = self.train_size + self.heldout_size
        train = [p for task in self.tasks for p in self._problems(task, range(self.train_size))]
        heldout = [p for task in self.tasks for p in self._problems(task, range(self.train_size, last))]
        return ProblemSet("reasoning_gym", train, heldout, self.overlap)

    def _problems(self, task: str, indices: range) -> list[Problem]:
        from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

        entries = create_dataset(task, seed=self.seed, size=indices.stop)
        golds = {i: json.dumps({"task": task, "seed": self.seed, "index": i}) for i in indices}
        return [Problem(f"{task}:{i}", str(entries[i]["question"]), gold) for i, gold in golds.items()]
