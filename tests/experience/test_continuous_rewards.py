"""Continuous rewards under each algorithm: kept samples, advantages and pairs, computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from running import composed
from winnow.algorithm import PolicyGradient, Preference
from winnow.config.instantiate import build_algorithm
from winnow.types import SampleFacts

# Two prompts with four samples. In the first the highest reward belongs to a wrong sample; in the second two correct
# samples tie, as far as float32 can tell.
REWARDS = torch.tensor([[0.9, 0.4, 0.7, -1.0], [0.3, 0.1 + 0.2, 0.0, 0.2]])
CORRECT = torch.tensor([[False, True, True, False], [True, True, False, False]])
# Two rewards with the weights 1 and 0.5: accuracy, and a length term of its own for each sample.
LENGTH = torch.tensor([[0.0, -0.4, -0.8, -0.2], [-1.0, -0.6, 0.0, -0.2]])
WEIGHTED = CORRECT.float() + 0.5 * LENGTH


def learning(algo: str, rewards: Tensor) -> tuple[list[list[bool]], list[list[float]]]:
    """The samples that are kept, and the advantages."""
    algorithm = build_algorithm(composed(f"algo={algo}"))
    assert isinstance(algorithm, PolicyGradient)
    kept = algorithm.select(rewards, CORRECT)
    return kept.tolist(), algorithm.advantages(rewards, None, kept, SampleFacts.of_verdicts(rewards, CORRECT)).tolist()


@pytest.mark.parametrize("algo", ["raft", "raftpp"])
def test_raft_imitates_the_best_of_the_correct_samples(algo: str):
    kept, advantages = learning(algo, REWARDS)
    assert kept == [[False, False, True, False], [True, True, False, False]]
    assert advantages == [[0, 0, 1, 0], [1, 1, 0, 0]]
    # Of two correct samples the one that is shorter: 1 − 0.2 against 1 − 0.4, and 1 − 0.5 against 1 − 0.3.
    assert learning(algo, WEIGHTED)[0] == [[False, True, False, False], [False, True, False, False]]


def test_reinforce_takes_the_reward_itself():
    kept, advantages = learning("reinforce", REWARDS)
    assert kept == [[True] * 4] * 2
    assert advantages == REWARDS.tolist()
    assert learning("reinforce", WEIGHTED)[1][0] == pytest.approx([0.0, 0.8, 0.6, -0.1])


@pytest.mark.parametrize("rewards", [REWARDS, WEIGHTED], ids=["continuous", "weighted"])
def test_grpo_standardises_within_each_prompt(rewards: Tensor):
    _, advantages = learning("grpo", rewards)
    for found, given in zip(advantages, rewards.tolist(), strict=True):
        mean = sum(given) / 4
        deviation = math.sqrt(sum((r - mean) ** 2 for r in given) / 3) + 1e-6
        assert found == pytest.approx([(r - mean) / deviation for r in given], abs=1e-5)


def test_dpo_pairs_the_highest_with_the_lowest_reward():
    algorithm = build_algorithm(composed("algo=dpo"))
    assert isinstance(algorithm, Preference)
    assert algorithm.select(REWARDS, CORRECT).tolist() == [[0, 0, 3], [1, 0, 2]]  # of ties the earlier sample
    assert algorithm.select(WEIGHTED, CORRECT).tolist() == [[0, 1, 3], [1, 1, 3]]
    assert algorithm.select(torch.full((2, 4), 0.3), CORRECT).tolist() == []


def test_a_prompt_without_a_success_has_no_best_sample():
    algorithm = build_algorithm(composed("algo=raft"))
    assert isinstance(algorithm, PolicyGradient)
    assert not algorithm.select(REWARDS, torch.zeros(2, 4, dtype=torch.bool)).any()


def test_a_kl_term_in_the_reward_is_subtracted_from_a_continuous_one():
    algorithm = build_algorithm(composed("algo=reinforce", "algo/kl=k1", "algo.kl.place=reward"))
    assert isinstance(algorithm, PolicyGradient)
    penalty = torch.full((2, 4), 0.1)
    every = torch.ones(2, 4, dtype=torch.bool)
    found = algorithm.advantages(REWARDS, penalty, every, SampleFacts.of_verdicts(REWARDS, every))
    assert torch.allclose(found, REWARDS - 0.1)
