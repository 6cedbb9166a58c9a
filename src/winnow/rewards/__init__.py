"""Rewards: verifiers, reward scales, and reward functions; those that Winnow has are named `winnow.rewards:NAME`.

Importing this package loads neither torch nor sympy; only the worker processes import sympy.
"""

from winnow.rewards.builtin import (
    accuracy,
    format_match,
    inverted_accuracy,
    length_penalty,
    overlong_penalty,
    random_reward,
    repetition_penalty,
)
from winnow.rewards.reward_model import RewardModel

__all__ = [
    "RewardModel",
    "accuracy",
    "format_match",
    "inverted_accuracy",
    "length_penalty",
    "overlong_penalty",
    "random_reward",
    "repetition_penalty",
]
