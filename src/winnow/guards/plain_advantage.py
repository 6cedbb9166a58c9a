"""Advantages computed plainly, prompt by prompt in Python numbers, to hold an iteration's own against."""

from collections.abc import Callable, Sequence

import torch

from winnow.guards.plain_rules import settings_of, spread, tied
from winnow.ops import advantage as advantage_ops
from winnow.rule import given, rule_of
from winnow.types import SampleFacts

Numbers = Sequence[float]


def plain_advantages(
    rule: Callable,
    rewards: Sequence[Numbers],
    penalties: Sequence[Numbers] | None,
    facts: SampleFacts,
    prompt: int,
) -> list[float] | None:
    """The advantages of the samples of one `prompt`, from the rewards of all prompts of the iteration.

    `penalties` is what a KL term in the reward subtracts from each of them, None without one. A plug-in's rule is
    called as it is, with `facts`; nothing is known of it where samples are not usable.
    """
    settings = settings_of(rule)
    mine = rewards[prompt]
    shaped = _minus(mine, None if penalties is None else penalties[prompt])
    match rule_of(rule):
        case advantage_ops.one:
            return [1.0] * len(mine)
        case advantage_ops.reward:
            return shaped
        case advantage_ops.signed:
            positive, negative = float(str(settings["w_pos"])), float(str(settings["w_neg"]))
            return [positive * r if r > 0 else negative * r for r in shaped]
        case advantage_ops.group:
            scaled = settings["scale"] == "std"
            centred = _centred(shaped, str(settings["centre"]))
            if not scaled:
                return centred
            if tied(mine):  # the rewards say nothing, and the penalty alone remains
                return _centred(_minus([0.0] * len(mine), penalties and penalties[prompt]), str(settings["centre"]))
            return [x / (spread(shaped) + float(str(settings["eps"]))) for x in centred]
        case advantage_ops.whitened:
            every = [r for group in rewards for r in group]
            taken = None if penalties is None else [x for group in penalties for x in group]
            place = sum(len(group) for group in rewards[:prompt])
            white = _whitened(every, taken, float(str(settings["eps"])))
            return white[place : place + len(mine)]
        case _ if any(len(group) < facts.lengths.shape[1] for group in rewards):
            return None
        case _:
            matrix = torch.tensor([list(group) for group in rewards])
            penalty = None if penalties is None else torch.tensor(penalties)
            more = given(rule, penalty=penalty, usable=torch.ones_like(facts.correct), **facts.offered)
            return rule(matrix, **more)[prompt].tolist()


def plain_gae(rule: Callable, rewards: Numbers, values: Numbers) -> tuple[list[float], list[float]]:
    """The advantages by GAE and the returns of one response, from its tokens' rewards and values."""
    settings = settings_of(rule)
    gamma, lam = float(str(settings["gamma"])), float(str(settings["lam"]))
    advantages = [0.0] * len(rewards)
    after, next_value = 0.0, 0.0
    for t in reversed(range(len(rewards))):
        after = rewards[t] + gamma * next_value - values[t] + gamma * lam * after
        advantages[t], next_value = after, values[t]
    return advantages, [a + v for a, v in zip(advantages, values, strict=True)]


def _minus(rewards: Numbers, penalties: Numbers | None) -> list[float]:
    return list(rewards) if penalties is None else [r - x for r, x in zip(rewards, penalties, strict=True)]


def _centred(rewards: Numbers, centre: str) -> list[float]:
    if centre == "none":
        return list(rewards)
    if tied(rewards):
        return [0.0] * len(rewards)
    total, count = sum(rewards), len(rewards)
    if centre == "leave_one_out":
        return [r - (total - r) / (count - 1) for r in rewards]
    return [r - total / count for r in rewards]


def _whitened(rewards: Numbers, penalties: Numbers | None, eps: float) -> list[float]:
    if tied(rewards):
        return _centred(_minus([0.0] * len(rewards), penalties), "mean")
    shaped = _minus(rewards, penalties)
    return [x / (spread(shaped) + eps) for x in _centred(shaped, "mean")]
