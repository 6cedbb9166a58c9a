"""Which samples are kept: verdicts of P prompts with G samples each to a (P, G) mask, or to pairs.

Selection reads the verdict and its reward, never a shaped reward.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def all_samples(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Keep everything (Reinforce, GRPO, PPO)."""
    return torch.ones_like(correct)


def positive(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Keep the correct samples (PSR, arXiv 2506.01347)."""
    return correct.clone()


def negative(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Keep the samples that are not correct (NSR, arXiv 2506.01347)."""
    return ~correct


def best(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Keep the highest-reward samples of each prompt that has a success (RAFT, Eq. 1 and Eq. 6).

    Eq. 6's indicator alone would keep every sample of an all-wrong prompt, where all tie at the maximum.
    """
    return (rewards == rewards.amax(1, keepdim=True)) & correct.any(1, keepdim=True)


def not_all_wrong(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Drop prompts without a success (Figure 4, "Remove all wrong")."""
    return correct.any(1, keepdim=True).expand_as(correct).clone()


def not_all_correct(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Drop prompts without a failure (Figure 4, "Remove all correct")."""
    return (~correct.all(1, keepdim=True)).expand_as(correct).clone()


def mixed_prompts(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
    """Keep a prompt only if its samples disagree (Reinforce-Rej, section 5.1: "Remove both")."""
    return not_all_wrong(rewards, correct) & not_all_correct(rewards, correct)


def extremes(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"], pairs: int = 1) -> Int[Tensor, "n 3"]:
    """Pairs (prompt, chosen, rejected) for preference learning: the k-th best against the k-th worst, k < `pairs`.

    Equal rewards make no pair, ties go to the earlier sample (Online-DPO-R1's `max_min` rule for pairs = 1).
    """
    order = rewards.argsort(dim=1, descending=True, stable=True)
    reverse = rewards.argsort(dim=1, stable=True)
    k = min(pairs, rewards.shape[1] // 2)
    rows = torch.arange(len(rewards)).unsqueeze(1).expand(-1, k)
    triples = torch.stack([rows, order[:, :k], reverse[:, :k]], dim=2).reshape(-1, 3)
    prompt, chosen, rejected = triples.unbind(1)
    return triples[rewards[prompt, chosen] > rewards[prompt, rejected]]
