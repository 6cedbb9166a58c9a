"""How much each sample is to be learnt from: (P, G) rewards to (P, G) advantages, or per token from a critic."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def one(rewards: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """Every kept sample counts the same: maximum likelihood on the kept set (RAFT, RAFT++)."""
    return torch.ones_like(rewards)


def reward(rewards: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """The reward itself, no baseline (Reinforce, Eq. 5)."""
    return rewards.clone()


def group(
    rewards: Float[Tensor, "p g"],
    centre: Literal["none", "mean", "leave_one_out"] = "mean",
    scale: Literal["none", "std"] = "std",
    eps: float = 1e-6,
) -> Float[Tensor, "p g"]:
    """Rewards relative to the prompt's own samples, all of them, kept or not (GRPO: mean and std).

    The standard deviation is the unbiased one plus `eps`, as in the released code. A baseline leaves exactly nothing of
    a prompt whose samples all have one reward: 0.7 less the mean of eight 0.7s is not 0 in floating point.
    """
    baseline = {
        "none": torch.zeros_like(rewards),
        "mean": rewards.mean(1, keepdim=True),
        "leave_one_out": (rewards.sum(1, keepdim=True) - rewards) / max(rewards.shape[1] - 1, 1),
    }[centre]
    tied = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)
    centred = rewards - baseline if centre == "none" else torch.where(tied, 0.0, rewards - baseline)
    return centred / (rewards.std(1, keepdim=True) + eps) if scale == "std" else centred


def whitened(rewards: Float[Tensor, "p g"], eps: float = 1e-6) -> Float[Tensor, "p g"]:
    """Rewards minus the mean, over the unbiased standard deviation, of all the iteration's samples (REINFORCE++)."""
    if rewards.amax() == rewards.amin():
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / (rewards.std() + eps)


def signed(rewards: Float[Tensor, "p g"], w_pos: float, w_neg: float) -> Float[Tensor, "p g"]:
    """Rewards with positive and negative parts weighted apart (W-REINFORCE, arXiv 2506.01347: 0.1 and 1)."""
    return w_pos * rewards.clamp(min=0) + w_neg * rewards.clamp(max=0)


def gae(
    rewards: Float[Tensor, "n s"],
    values: Float[Tensor, "n s"],
    response: Bool[Tensor, "n s"],
    gamma: float = 1.0,
    lam: float = 1.0,
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]]:
    """Generalised advantages and returns of each response token (arXiv 1506.02438, Eq. 16); zero elsewhere.

    `values[:, s]` estimates the return from before token s is drawn; after the last token it is 0.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(rewards[:, 0])
    for s in reversed(range(rewards.shape[1])):
        delta = rewards[:, s] + gamma * next_value - values[:, s]
        inside = response[:, s]
        following = torch.where(inside, delta + gamma * lam * following, following)
        next_value = torch.where(inside, values[:, s], next_value)
        advantages[:, s] = torch.where(inside, following, advantages[:, s])
    return advantages, (advantages + values) * response


def whiten_tokens(
    advantages: Float[Tensor, "n s"], response: Bool[Tensor, "n s"], eps: float = 1e-8
) -> Float[Tensor, "n s"]:
    """Advantages with mean 0 and variance 1 over all response tokens of the iteration (`masked_whiten` of verl)."""
    inside = advantages[response]
    if len(inside) < 2:
        return torch.zeros_like(advantages)
    return (advantages - inside.mean()) / (inside.var() + eps).sqrt() * response
