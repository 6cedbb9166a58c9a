"""Selection rules on four small prompts."""

import torch

from winnow.ops import select

# Four prompts with three samples: all wrong, mixed, all right, mixed with one unanswered (−2).
REWARDS = torch.tensor([[-1.0, -1, -1], [1, -1, 1], [1, 1, 1], [-1, 1, -2]])
CORRECT = REWARDS == 1


def kept(rule) -> list[list[int]]:
    return rule(REWARDS, CORRECT).int().tolist()


def test_all_samples_keeps_everything():
    assert kept(select.all_samples) == [[1, 1, 1]] * 4


def test_best_keeps_successes_and_nothing_of_an_all_wrong_prompt():
    assert kept(select.best) == [[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]]


def test_best_takes_the_highest_reward_where_successes_differ():
    rewards = torch.tensor([[0.5, 1.0, -1.0]])
    assert select.best(rewards, rewards > 0).tolist() == [[False, True, False]]


def test_positive_and_negative_split_the_samples():
    assert kept(select.positive) == [[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]]
    assert kept(select.negative) == [[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_filters_drop_whole_prompts():
    assert kept(select.not_all_wrong) == [[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert kept(select.not_all_correct) == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert kept(select.mixed_prompts) == [[0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]]


def test_extremes_pair_best_with_worst_and_skip_ties():
    assert select.extremes(REWARDS, CORRECT).tolist() == [[1, 0, 1], [3, 1, 2]]


def test_extremes_takes_more_pairs_while_rewards_differ():
    rewards = torch.tensor([[1.0, -1, 1, -1], [1, -1, -1, -1]])
    pairs = select.extremes(rewards, rewards > 0, pairs=2)
    assert pairs.tolist() == [[0, 0, 1], [0, 2, 3], [1, 0, 1]]
