"""Advantage estimators: (P, G) rewards → (P, G) advantages, one per response; and GAE, per token, from a critic."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def one(rewards: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """1 for every kept sample, which is maximum likelihood on the kept set (RAFT, RAFT++)."""
    return torch.ones_like(rewards)


def reward(rewards: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """The reward itself, without a baseline (Reinforce, Eq. 5)."""
    return rewards.clone()


def group(
    rewards: Float[Tensor, "p g"],
    centre: Literal["none", "mean", "leave_one_out"] = "mean",
    scale: Literal["none", "std"] = "std",
    eps: float = 1e-6,
) -> Float[Tensor, "p g"]:
    """Rewards centred and scaled by the mean and standard deviation of the prompt's G samples, kept or not (GRPO).

    The standard deviation is the unbiased one plus `eps`, as in the released code. `leave_one_out` centres each sample
    by the mean of the prompt's other samples.
    """
    baseline = {
        "none": torch.zeros_like(rewards),
        "mean": rewards.mean(1, keepdim=True),
        "leave_one_out": (rewards.sum(1, keepdim=True) - rewards) / max(rewards.shape[1] - 1, 1),
    }[centre]
    # In floating point 0.7 minus the mean of eight 0.7s is not 0. Where all rewards of a prompt are equal, a baseline
    # has to leave exactly 0, so that the rows count as rows without a gradient.
    tied = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)
    centred = rewards - baseline if centre == "none" else torch.where(tied, 0.0, rewards - baseline)
    return centred / (rewards.std(1, keepdim=True) + eps) if scale == "std" else centred


def whitened(rewards: Float[Tensor, "p g"], eps: float = 1e-6) -> Float[Tensor, "p g"]:
    """Rewards minus the mean of all samples of the iteration, over their unbiased standard deviation (REINFORCE++)."""
    if rewards.amax() == rewards.amin():  # exactly 0, as in `group`
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / (rewards.std() + eps)


def signed(rewards: Float[Tensor, "p g"], w_pos: float, w_neg: float) -> Float[Tensor, "p g"]:
    """Rewards with separate weights on positive and negative ones (W-REINFORCE, arXiv 2506.01347: 0.1 and 1)."""
    return w_pos * rewards.clamp(min=0) + w_neg * rewards.clamp(max=0)


def gae(
    rewards: Float[Tensor, "n s"],
    values: Float[Tensor, "n s"],
    response: Bool[Tensor, "n s"],
    gamma: float = 1.0,
    lam: float = 1.0,
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]]:
    """Generalised advantage estimates and returns of each response token, 0 elsewhere (arXiv 1506.02438, Eq. 16).

    `values[:, s]` estimates the return from the state before token s is drawn; the value after the last token is 0.
    """
    advantages = torch.zeros_like(rewards)
    next_advantage = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(rewards[:, 0])
    for s in reversed(range(rewards.shape[1])):
        delta = rewards[:, s] + gamma * next_value - values[:, s]
        # Responses end at different positions. The recursion starts at each row's own last token: padding after it must
        # pass on neither an advantage nor a value.
        inside = response[:, s]
        next_advantage = torch.where(inside, delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(inside, values[:, s], next_value)
        advantages[:, s] = torch.where(inside, next_advantage, advantages[:, s])
    return advantages, (advantages + values) * response


def whiten_tokens(
    advantages: Float[Tensor, "n s"], response: Bool[Tensor, "n s"], eps: float = 1e-8
) -> Float[Tensor, "n s"]:
    """Advantages shifted and scaled to mean 0 and variance 1 over all response tokens (`masked_whiten` of verl)."""
    inside = advantages[response]
    if len(inside) < 2:
        return torch.zeros_like(advantages)
    return (advantages - inside.mean()) / (inside.var() + eps).sqrt() * response
