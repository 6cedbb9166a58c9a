"""Sample selection (rejection sampling): (P, G) rewards and verdicts → a (P, G) mask of the samples to keep, or pairs.

`correct` says which samples are a success, and `rewards` are those of the verdicts or of reward functions, before a KL
term is subtracted: that changes advantages, but not which samples are kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.ops.spread import rounding


def all_samples(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Every sample is kept (Reinforce, GRPO, PPO)."""
    return torch.ones_like(correct)


def positive(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Only correct samples are kept (PSR, arXiv 2506.01347)."""
    return correct.clone()


def negative(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Only samples that are not correct are kept (NSR, arXiv 2506.01347)."""
    return ~correct


def best(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """The highest-reward samples among each prompt's correct ones; all that tie (RAFT, Eq. 1; RAFT++, Eq. 6).

    With the rewards of verdicts these are all correct samples, and with a continuous reward mostly a single one. A
    wrong sample is never the best, whatever its reward. The indicator of Eq. 6, taken literally, would keep every
    sample of an all-wrong prompt, because all of them tie at the maximum. The released code drops them, and so does
    this function.
    """
    highest = rewards.masked_fill(~correct, -torch.inf).amax(1, keepdim=True)
    return (highest - rewards <= rounding(highest.abs())) & correct


def not_all_wrong(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """All samples of the prompts that have at least one correct sample (Figure 4, "Remove all wrong")."""
    return correct.any(1, keepdim=True).expand_as(correct).clone()


def not_all_correct(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """All samples of the prompts that have at least one incorrect sample (Figure 4, "Remove all correct")."""
    return (~correct.all(1, keepdim=True)).expand_as(correct).clone()


def mixed_prompts(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """All samples of the prompts with both correct and incorrect ones (Reinforce-Rej, section 5.1: "Remove both")."""
    return not_all_wrong(rewards, correct) & not_all_correct(rewards, correct)


def extremes(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"], pairs: int = 1) -> Int[Tensor, "n 3"]:
    """Preference pairs (prompt, chosen, rejected): a prompt's k-th best sample against its k-th worst, k < `pairs`.

    Samples of equal reward make no pair, and ties go to the earlier sample. `pairs` = 1 is the `max_min` rule of
    Online-DPO-R1.
    """
    order = rewards.argsort(dim=1, descending=True, stable=True)
    reverse = rewards.argsort(dim=1, stable=True)
    k = min(pairs, rewards.shape[1] // 2)
    rows = torch.arange(len(rewards)).unsqueeze(1).expand(-1, k)
    triples = torch.stack([rows, order[:, :k], reverse[:, :k]], dim=2).reshape(-1, 3)
    prompt, chosen, rejected = triples.unbind(1)
    better, worse = rewards[prompt, chosen], rewards[prompt, rejected]
    return triples[better - worse > rounding(torch.maximum(better.abs(), worse.abs()))]
