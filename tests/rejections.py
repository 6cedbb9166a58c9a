"""Rules of selection that keep rows by their place, and a reward by iteration: who has nothing to learn is no luck.

Of two ranks the first samples prompts 0, 2, …, and the second prompts 1, 3, …
"""

import torch


def second_rank_alone(rewards, correct):
    kept = torch.zeros_like(correct)
    kept[1::2] = True
    return kept


def nothing(rewards, correct):
    return torch.zeros_like(correct)


def one_row(rewards, correct):
    kept = torch.zeros_like(correct)
    kept[-1, 1] = True
    return kept


def rewarded(rewards, correct):
    return rewards > 0


def in_odd_iterations(completions, trainer_state, **kwargs):
    """A reward function: nothing in iterations 0 and 2, and 1 or 2 in between."""
    return [(1.0 + len(c) % 2) * (trainer_state.global_step % 2) for c in completions]
