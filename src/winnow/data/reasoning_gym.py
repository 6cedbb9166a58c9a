"""Procedural tasks of the package reasoning-gym, as problems whose gold says how to make the task's scorer again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Literal

from winnow.data.problems import BadGolds, Problem, ProblemSet
from winnow.errors import ConfigError

_NAMES = """
advanced_geometry aiw arc_1d arc_agi base_conversion basic_arithmetic bf binary_alternation binary_matrix
bitwise_arithmetic caesar_cipher calendar_arithmetic chain_sum circuit_logic codeio color_cube_rotation
complex_arithmetic count_bits count_primes countdown course_schedule cryptarithm decimal_arithmetic decimal_chain_sum
dice emoji_mystery family_relationships figlet_font fraction_simplification futoshiki game_of_life gcd group_anagrams
intermediate_integration isomorphic_strings jugs kakurasu knight_swap knights_knaves largest_island lcm leg_counting
letter_counting letter_jumble list_functions mahjong_puzzle manipulate_matrix maze mini_sudoku modulo_grid n_queens
needle_haystack number_filtering number_format number_sequence number_sorting palindrome_generation
palindrome_partitioning path_star polynomial_multiplication pool_matrix prime_factorization products puzzle24
quantum_lock ransom_note rearc rectangle_count rotate_matrix rotten_oranges self_reference sentence_reordering
shortest_path simple_equations simple_geometry simple_integration sokoban spell_backward spiral_matrix
string_insertion string_manipulation string_splitting string_synthesis sudoku survo syllogism time_intervals
tower_of_hanoi tsumego word_ladder word_sequence_reversal word_sorting zebra_puzzles
"""
TASKS = frozenset(_NAMES.split())
"""Tasks of reasoning-gym 0.1.25 whose own answer, in a box, scores 1, and whose scorer gives less to an empty answer, to
senseless ones and to the problem itself. Left out: ab, boxnet, graph_color, propositional_logic, rubiks_cube, rush_hour (they
name no answer), acre (problem n depends on how many there are), coin_flip, polynomial_equations, power_function (0 or 1 is often
right), game_of_life_halting (anything scores 1), gsm_symbolic (the problem itself scores 1), composite (a mixture)."""


@dataclass(frozen=True)
class ReasoningGym:
    """`train_size` problems of each task, and the next `heldout_size` of its stream to evaluate on."""

    tasks: Sequence[str]
    seed: int
    train_size: int
    heldout_size: int
    overlap: Literal["drop", "keep"]

    def load(self, bad_golds: BadGolds, hold_out: bool) -> ProblemSet:
        """
        Raises:
            ConfigError: the package is not installed, or a task is not on the allow-list.
        """
        if find_spec("reasoning_gym") is None:
            raise ConfigError(
                "dataset=reasoning_gym: the package is not installed; type pip install 'winnow-rl[tasks]'"
            )
        for task in self.tasks:
            if task not in TASKS:
                near = ", ".join(get_close_matches(task, TASKS)) or ", ".join(sorted(TASKS))
                raise ConfigError(
                    f"dataset.tasks: {task} is not on the list of tasks whose scorer can be trusted; try {near}"
                )
        last = self.train_size + self.heldout_size
        train = [p for task in self.tasks for p in self._problems(task, range(self.train_size))]
        heldout = [p for task in self.tasks for p in self._problems(task, range(self.train_size, last))]
        return ProblemSet("reasoning_gym", train, heldout, self.overlap)

    def _problems(self, task: str, indices: range) -> list[Problem]:
        from reasoning_gym import create_dataset  # pyright: ignore[reportMissingImports]

        entries = create_dataset(task, seed=self.seed, size=indices.stop)
        return [
            Problem(
                f"{task}:{i}", str(entries[i]["question"]), json.dumps({"task": task, "seed": self.seed, "index": i})
            )
            for i in indices
        ]
