"""Advantage estimators: (P, G) rewards → (P, G) advantages, one per response; and GAE, per token, from a critic.

`rewards` are those of the verdicts, and `penalty`, if there is one, is what a KL term in the reward subtracts from each
of them. A rule that divides by a standard deviation does so where the rewards themselves differ. Where they tie, they
say nothing, and the penalty alone remains, centred as the rule says but not divided: its size is what its coefficient
makes it.
"""

from collections.abc import Callable
from math import comb
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from winnow.ops.spread import tied

Centre = Literal["none", "mean", "leave_one_out"]
Rule = Callable[[Tensor], Tensor]


def one(rewards: Float[Tensor, "p g"], penalty: Float[Tensor, "p g"] | None = None) -> Float[Tensor, "p g"]:
    """1 for every kept sample, which is maximum likelihood on the kept set (RAFT, RAFT++)."""
    return torch.ones_like(rewards)


def reward(rewards: Float[Tensor, "p g"], penalty: Float[Tensor, "p g"] | None = None) -> Float[Tensor, "p g"]:
    """The reward itself, without a baseline (Reinforce, Eq. 5)."""
    return _shaped(rewards, penalty).clone()


def group(
    rewards: Float[Tensor, "p g"],
    penalty: Float[Tensor, "p g"] | None = None,
    centre: Centre = "mean",
    scale: Literal["none", "std"] = "std",
    eps: float = 1e-6,
) -> Float[Tensor, "p g"]:
    """GRPO's: rewards centred and scaled by the mean and deviation of the prompt's G samples, kept or not.

    The standard deviation is the unbiased one plus `eps`, as in the released code (GRPO, arXiv 2402.03300, where
    scale=std); `none` leaves it out (Dr. GRPO, arXiv 2503.20783, where centre=mean and scale=none). `leave_one_out`
    centres each sample by the mean of the prompt's others (RLOO, arXiv 2402.14740, where centre=leave_one_out). A
    prompt whose rewards tie has no advantage from them.
    """
    shaped = _shaped(rewards, penalty)
    if centre == scale == "none":
        return shaped.clone()
    deviation: Rule = {
        "none": torch.ones_like,
        "std": lambda of: of.std(1, keepdim=True) + eps,
    }[scale]
    return _standardised(shaped, rewards, penalty, lambda of: _centred(of, centre), deviation, dim=(1,))


def whitened(
    rewards: Float[Tensor, "p g"],
    penalty: Float[Tensor, "p g"] | None = None,
    eps: float = 1e-6,
    usable: Bool[Tensor, "p g"] | None = None,
) -> Float[Tensor, "p g"]:
    """Rewards minus the mean of all samples of the iteration, over their unbiased standard deviation (REINFORCE++).

    An iteration whose rewards all tie has no advantage from them. What is not `usable` has none either.
    """
    if usable is not None and not usable.all():
        found = torch.zeros_like(rewards)
        taken = None if penalty is None else penalty[usable][None]
        found[usable] = whitened(rewards[usable][None], taken, eps)[0]
        return found
    shaped = _shaped(rewards, penalty)
    return _standardised(shaped, rewards, penalty, _around_mean, lambda of: of.std() + eps, dim=(0, 1))


def signed(
    rewards: Float[Tensor, "p g"], penalty: Float[Tensor, "p g"] | None = None, *, w_pos: float, w_neg: float
) -> Float[Tensor, "p g"]:
    """Rewards with separate weights on positive and negative ones (W-REINFORCE, arXiv 2506.01347: 0.1 and 1)."""
    shaped = _shaped(rewards, penalty)
    return w_pos * shaped.clamp(min=0) + w_neg * shaped.clamp(max=0)


def batch(
    rewards: Float[Tensor, "p g"],
    usable: Bool[Tensor, "p g"],
    penalty: Float[Tensor, "p g"] | None = None,
    spread: Literal["rewards", "advantages"] = "rewards",
    eps: float = 1e-6,
) -> Float[Tensor, "p g"]:
    """Rewards minus the mean of their prompt, over a standard deviation of the whole iteration.

    That of the rewards is Lite-PPO's (arXiv 2508.08221, where spread=rewards), that of the centred rewards
    REINFORCE++-baseline's (arXiv 2501.03262, where spread=advantages). An iteration whose rewards all tie has no
    advantage from them.
    """
    shaped = _shaped(rewards, penalty)
    centred = _centred_among(shaped, usable)
    if tied(rewards[usable], (0,)):
        return centred
    return centred / ({"rewards": shaped, "advantages": centred}[spread][usable].std() + eps)


def over_pass_rate(rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """(c − p) / p with the verdict c of a sample, 0 or 1, and its prompt's share p of correct samples; 0 if p is 0.

    On average over groups that is the gradient of −Σ_{k<G} (1 − p)^k / k, the first G − 1 terms of log p, of responses
    whose tokens are summed (MaxRL, arXiv 2602.02710). The paper counts G terms, which holds where the mean of all
    scores is subtracted from groups without a correct sample too; its algorithm drops these, and so does this function.
    Rewards are not read.
    """
    rate = correct.to(rewards.dtype).mean(1, keepdim=True)
    return torch.where(rate > 0, (correct.to(rewards.dtype) - rate) / rate, 0.0)


def length_weighted(rewards: Float[Tensor, "p g"], lengths: Int[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """Rewards minus the mean of their prompt's, in which each counts by its length: Σ l·r / Σ l.

    This is the baseline of least variance if the square of a response's gradient grows with its length (OPO, arXiv
    2505.23585), as it may where its tokens are summed and not averaged.
    """
    weights = lengths.to(rewards.dtype) / lengths.sum(1, keepdim=True).clamp(min=1)
    return torch.where(tied(rewards, (1,)), 0.0, rewards - (weights * rewards).sum(1, keepdim=True))


def each_reward(
    rewards: Float[Tensor, "p g"],
    parts: Float[Tensor, "p g m"],
    weights: Float[Tensor, " m"],
    usable: Bool[Tensor, "p g"],
    eps: float = 1e-4,
) -> Float[Tensor, "p g"]:
    """Each reward standardised within its prompt, then added by its weight, and the sums whitened (GDPO).

    arXiv 2601.05242, Eq. 4 to 7: a reward of small spread is not drowned by one of large spread.
    """
    total = torch.zeros_like(rewards)
    degrees = (usable.sum(1, keepdim=True) - 1).clamp(min=1)
    for part, weight in zip(parts.unbind(2), weights, strict=True):
        centred = _centred_among(part, usable)
        total += weight * centred / ((centred.square().sum(1, keepdim=True) / degrees).sqrt() + eps)
    inside = total[usable]
    if tied(inside, (0,)):
        return torch.zeros_like(rewards)
    return torch.where(usable, (total - inside.mean()) / (inside.std() + eps), 0.0)


def pass_at_k(
    rewards: Float[Tensor, "p g"], correct: Bool[Tensor, "p g"], k: int, eps: float = 1e-6
) -> Float[Tensor, "p g"]:
    """The advantage of a sample for the chance ρ that k samples of its prompt's G have a correct one among them.

    With W wrong samples ρ = 1 − C(W, k) / C(G, k); correct ones have (1 − ρ) / σ and wrong ones
    (1 − ρ − C(W − 1, k − 1) / C(G − 1, k − 1)) / σ, σ = √(ρ(1 − ρ)) + eps (arXiv 2508.10751, section 2.4; its released
    code). Where G is not above k, every sample has 0. Rewards are not read.
    """
    size = rewards.shape[1]
    k = min(k, size)
    none_of_all = rewards.new_tensor([comb(w, k) / comb(size, k) for w in range(size + 1)])
    none_of_others = rewards.new_tensor([0.0, *(comb(w, k - 1) / comb(size - 1, k - 1) for w in range(size))])
    wrong = (~correct).sum(1, keepdim=True)
    fails = none_of_all[wrong]
    scale = (fails * (1 - fails)).sqrt() + eps
    return torch.where(correct, fails, fails - none_of_others[wrong]) / scale


def _shaped(rewards: Tensor, penalty: Tensor | None) -> Tensor:
    return rewards if penalty is None else rewards - penalty


def _standardised(
    shaped: Tensor,
    unshaped: Tensor,
    penalty: Tensor | None,
    centred: Rule,
    deviation: Rule,
    dim: tuple[int, ...],
    magnitude: Tensor | None = None,
) -> Tensor:
    """`shaped` centred and over its deviation along `dim`; where `unshaped` ties, the centred penalty alone.

    This is the one place that decides whether a spread of rewards is a signal or rounding.
    """
    remaining = torch.zeros_like(shaped) if penalty is None else centred(-penalty)
    without_signal = tied(unshaped, dim, magnitude)
    if without_signal.all():  # a single sample is one case: it has no standard deviation
        return remaining
    return torch.where(without_signal, remaining, centred(shaped) / deviation(shaped))


def _centred(rewards: Float[Tensor, "p g"], centre: Centre) -> Float[Tensor, "p g"]:
    """Rewards minus the baseline of their prompt."""
    if centre == "none":
        return rewards
    baseline = {
        "mean": rewards.mean(1, keepdim=True),
        "leave_one_out": (rewards.sum(1, keepdim=True) - rewards) / max(rewards.shape[1] - 1, 1),
    }[centre]
    # In floating point 0.7 minus the mean of eight 0.7s is not 0. Where all numbers of a prompt are equal, a baseline
    # has to leave exactly 0, so that the rows count as rows without a gradient.
    return torch.where(tied(rewards, (1,)), 0.0, rewards - baseline)


def _centred_among(values: Float[Tensor, "p g"], usable: Bool[Tensor, "p g"]) -> Float[Tensor, "p g"]:
    """Values minus the mean of their prompt's usable ones; 0 where these tie, and where a value is not usable."""
    mean = (values * usable).sum(1, keepdim=True) / usable.sum(1, keepdim=True).clamp(min=1)
    filled = torch.where(usable, values, mean)
    return torch.where(tied(filled, (1,)), 0.0, filled - mean)


def _around_mean(numbers: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers minus the mean of all of them; exactly 0 where they tie."""
    every = tuple(range(numbers.dim()))
    return torch.where(tied(numbers, every), 0.0, numbers - numbers.mean())


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
    advantages: Float[Tensor, "n s"],
    response: Bool[Tensor, "n s"],
    eps: float = 1e-8,
    unshaped: Float[Tensor, "n s"] | None = None,
    penalty: Float[Tensor, "n s"] | None = None,
    magnitude: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "n s"]:
    """Advantages shifted and scaled to mean 0 and variance 1 over all response tokens (`masked_whiten` of verl).

    With a KL term in the reward, `unshaped` holds the advantages without it and `penalty` its share of them, which is
    subtracted. `magnitude` is the largest absolute reward or value: an advantage is a difference of such numbers.
    """
    inside = advantages[response]
    if len(inside) < 2:
        return torch.zeros_like(advantages)
    white = torch.zeros_like(advantages)
    white[response] = _standardised(
        inside,
        inside if unshaped is None else unshaped[response],
        None if penalty is None else penalty[response],
        _around_mean,
        lambda of: (of.var() + eps).sqrt(),
        dim=(0,),
        magnitude=magnitude,
    )
    return white
