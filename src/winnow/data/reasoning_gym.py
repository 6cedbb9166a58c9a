"""Procedural tasks of the package reasoning-gym, as problems whose gold says how to rebuild the task's scorer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from winnow.data.problems import BadGolds, Overlap, Problem, ProblemSet
from winnow.errors import ConfigError
from winnow.installed import require_package

TASKS = frozenset(Path(__file__).with_name("reasoning_gym_tasks.txt").read_text(encoding="utf-8").split())
"""Tasks of reasoning-gym 0.1.25 whose scorer can be trusted: the task's own answer, in a box, scores 1, and an empty
answer, nonsense and the text of the problem score less. Left out: ab, boxnet, graph_color, propositional_logic,
rubiks_cube and rush_hour (they give no answer); acre (its problem n depends on the number of problems); coin_flip,
polynomial_equations and power_function (0 or 1 is often right); game_of_life_halting (anything scores 1); gsm_symbolic
(the text of the problem scores 1); composite (a mixture)."""


@dataclass(frozen=True)
class ReasoningGym:
    """Dataset of `train_size` problems of each task, and the next `heldout_size` of the task's stream held out.

    The solution of a problem, which supervised learning learns from, is the task's own answer in a box.
    """

    tasks: Sequence[str]
    seed: int
    train_size: int
    heldout_size: int
    overlap: Overlap
    options: Mapping[str, Mapping[str, object]] | None = None
    """Settings of reasoning-gym by task, such as the number of terms; what is not named has that package's default."""

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """Training and held-out problems, task by task.

        Raises:
            ConfigError: as `require_files`, or the package refuses an option's value.
        """
        self.require_files("dataset", hold_out, bad_golds)
        last = self.train_size + self.heldout_size
        train = [p for task in self.tasks for p in self._problems(task, range(self.train_size))]
        heldout = [p for task in self.tasks for p in self._problems(task, range(self.train_size, last))]
        return ProblemSet("reasoning_gym", train, heldout, self.overlap)

    def require_files(self, key: str, hold_out: bool, bad_golds: BadGolds) -> None:
        """Check what can be known before a problem is made.

        Raises:
            ConfigError: the package is not installed, a task is not one of `TASKS`, or it has no such option.
        """
        require_package("reasoning_gym", f"{key}=reasoning_gym", "tasks")
        for task in self.tasks:
            if task not in TASKS:
                near = ", ".join(get_close_matches(task, TASKS) or sorted(TASKS))
                raise ConfigError(f"{key}.tasks: {task} is not on the list of tasks with a reliable scorer; try {near}")
        for task in self.options or {}:
            if task not in self.tasks:
                raise ConfigError(f"{key}.options.{task}: not among {key}.tasks={list(self.tasks)}")

    def _problems(self, task: str, indices: range) -> list[Problem]:
        from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

        options = dict((self.options or {}).get(task, {}))
        _check_options(task, options)
        try:
            entries = create_dataset(task, seed=self.seed, size=indices.stop, **options)
            made = [(i, entries[i]) for i in indices]
        except (AssertionError, TypeError, ValueError, IndexError) as error:
            if not options:
                raise
            raise ConfigError(f"dataset.options.{task}={options}: reasoning-gym refuses it: {error}") from error
        problem = {"task": task, "seed": self.seed} | ({"options": options} if options else {})
        return [
            Problem(
                key=f"{task}:{i}",
                text=str(entry["question"]),
                answer=json.dumps(problem | {"index": i}),
                solution=f"\\boxed{{{entry['answer']}}}",
            )
            for i, entry in made
        ]


def _check_options(task: str, options: Mapping[str, object]) -> None:
    """Check the names of a task's options; seed and size are the dataset's own settings."""
    from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]

    known = {setting.name for setting in fields(DATASETS[task][1])} - {"seed", "size"}
    for name in options:
        if name not in known:
            near = ", ".join(get_close_matches(name, known) or sorted(known))
            raise ConfigError(f"dataset.options.{task}.{name}: {task} has no such option; try {near}")
