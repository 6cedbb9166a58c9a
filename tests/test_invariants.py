"""Invariants of gradients, and identities between algorithms under the denominators for which they hold."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

from learning import float64_policy, gradient, made_up_rows
from winnow.models.policy import Policy
from winnow.objectives import KL, PolicyObjective, PreferenceObjective
from winnow.ops import advantage, aggregate, clip, kl, preference, ratio, select
from winnow.packed import pack
from winnow.types import Pair, Row

CLOSE = {"rtol": 0, "atol": 1e-9}
RATIOS = {f.__name__: f for f in (ratio.token, ratio.sequence_product, ratio.sequence)}
CLIPS = {
    "unclipped": clip.unclipped,
    "ppo": partial(clip.ppo, low=0.2, high=0.2),
    "ratio_min": partial(clip.ratio_min, low=0.2, high=0.2),
    "dual": partial(clip.dual, low=0.2, high=0.2, c=3.0),
    "cispo": partial(clip.cispo, low=1.0, high=0.2),
}
AGGREGATES = {
    "sequence_mean": aggregate.sequence_mean,
    "token_mean": aggregate.token_mean,
    "sequence_sum": aggregate.sequence_sum,
    "constant_length": partial(aggregate.constant_length, length=9),
}
ADVANTAGES = [1.0, -1.0, 0.5, 0.0, -0.25, 2.0, 1.0]
PPO = CLIPS["ppo"]


@pytest.fixture(params=["packed", "padded"])
def policy(request: pytest.FixtureRequest) -> Policy:
    """A policy on packed rows, and one with transformers' attention on padded rows."""
    return float64_policy(packed=request.param == "packed")


def plain() -> PolicyObjective:
    return PolicyObjective(ratio.log_probability, clip.unclipped, None, 0.0)


def objectives() -> list[tuple[str, PolicyObjective]]:
    found = [("log_probability", plain())]
    for (r, rule), (c, clipping) in itertools.product(RATIOS.items(), CLIPS.items()):
        found.append((f"{r}-{c}", PolicyObjective(rule, clipping, None, 0.0)))
    for estimator in (kl.k1, kl.k2, kl.k3):
        term = KL(estimator, coef=0.1, clamp=10.0)
        found.append((estimator.__name__, PolicyObjective(ratio.token, PPO, term, 0.0)))
    found.append(("entropy", PolicyObjective(ratio.token, PPO, None, 0.01)))
    dppo = partial(clip.dppo, low=0.02, high=0.02, cap=20.0)
    stale = partial(clip.stale_negatives_left_out, low=0.2, high=0.2, delta=0.1)
    found += [
        (name, PolicyObjective(ratio.token, rule, None, 0.0)) for name, rule in (("dppo", dppo), ("stale", stale))
    ]
    return found


@pytest.mark.parametrize("rule", AGGREGATES.values(), ids=AGGREGATES)
@pytest.mark.parametrize("objective", [o for _, o in objectives()], ids=[n for n, _ in objectives()])
def test_a_gradient_does_not_depend_on_row_order_padding_or_micro_batches(policy, objective, rule):
    rows = made_up_rows(ADVANTAGES)
    whole = gradient(policy, objective, rows, rule)
    shuffled = [rows[i] for i in (4, 0, 6, 2, 5, 1, 3)]
    assert whole.abs().max() > 1e-6
    torch.testing.assert_close(gradient(policy, objective, shuffled, rule), whole, **CLOSE)
    # One row per micro-batch has no padding; two or three have other neighbours and other padding.
    torch.testing.assert_close(gradient(policy, objective, rows, rule, token_budget=1), whole, **CLOSE)
    torch.testing.assert_close(gradient(policy, objective, shuffled, rule, token_budget=25), whole, **CLOSE)


def test_a_preference_gradient_does_not_depend_on_them_either(policy):
    rows = made_up_rows([0.0] * 8)
    pairs = [Pair(replace(a, advantage=None), replace(b, advantage=None)) for a, b in itertools.pairwise(rows)]
    objective = PreferenceObjective(preference.sigmoid, preference.reverse_kl, beta=0.3, smoothing=0.1)
    whole = gradient(policy, objective, pairs)
    assert whole.abs().max() > 1e-6
    torch.testing.assert_close(gradient(policy, objective, pairs[::-1], token_budget=1), whole, **CLOSE)
    torch.testing.assert_close(gradient(policy, objective, pairs, token_budget=50), whole, **CLOSE)


def on_policy(policy: Policy, rows: list[Row]) -> list[Row]:
    """The rows with old log-probabilities as if the current policy had drawn them."""
    found = []
    for row in rows:
        with torch.no_grad():
            old = policy(pack([row])).logprobs[0]
        found.append(replace(row, old_logprobs=old))
    return found


@pytest.mark.parametrize("rule", AGGREGATES.values(), ids=AGGREGATES)
def test_raft_and_raftpp_agree_while_the_policy_is_the_one_that_sampled(policy, rule):
    """The first optimiser step of an iteration, under any denominator: ∇ratio = ∇log π where ratio = 1."""
    rows = on_policy(policy, made_up_rows([1.0] * 5))
    raftpp = PolicyObjective(ratio.token, PPO, None, 0.0)
    torch.testing.assert_close(gradient(policy, raftpp, rows, rule), gradient(policy, plain(), rows, rule), **CLOSE)


def test_raft_and_raftpp_differ_once_the_policy_has_moved(policy):
    rows = made_up_rows([1.0] * 5)
    raftpp = PolicyObjective(ratio.token, PPO, None, 0.0)
    assert (gradient(policy, raftpp, rows) - gradient(policy, plain(), rows)).abs().max() > 1e-3


ZERO_ONE = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
CORRECT = ZERO_ONE == 1
PLUS_MINUS = 2 * ZERO_ONE - 1


def test_raft_and_grpo_are_the_same_with_rewards_0_or_minus_1_for_wrong():
    """GRPO is so up to the eps in its denominator, 1.5e-6."""
    assert torch.equal(select.best(ZERO_ONE, CORRECT), select.best(PLUS_MINUS, CORRECT))
    torch.testing.assert_close(advantage.group(ZERO_ONE), advantage.group(PLUS_MINUS), rtol=0, atol=3e-6)


def test_reinforce_rej_with_0_and_1_is_raftpp_on_mixed_prompts(policy):
    """Under `zero` both have the same denominator and the same gradient.

    Under `drop` they differ by a factor: the number of rows that Reinforce-Rej keeps over the number that RAFT++ keeps.
    """
    mixed = select.mixed_prompts(ZERO_ONE, CORRECT)
    rej = torch.where(mixed, advantage.reward(ZERO_ONE), 0).flatten().tolist()
    raftpp = torch.where(mixed & select.best(ZERO_ONE, CORRECT), 1.0, 0).flatten().tolist()
    assert rej == raftpp
    objective = PolicyObjective(ratio.token, PPO, None, 0.0)
    rows = made_up_rows(rej)
    kept_by_rej = [row for row, keep in zip(rows, mixed.flatten().tolist(), strict=True) if keep]
    kept_by_raftpp = [row for row, a in zip(rows, raftpp, strict=True) if a == 1]
    factor = len(kept_by_rej) / len(kept_by_raftpp)
    torch.testing.assert_close(
        gradient(policy, objective, kept_by_rej) * factor, gradient(policy, objective, kept_by_raftpp), **CLOSE
    )


def test_centring_and_both_filters_agree_on_the_prompts_without_a_gradient():
    centred = advantage.group(PLUS_MINUS, centre="mean", scale="none")
    assert torch.equal((centred == 0).all(1), ~select.mixed_prompts(PLUS_MINUS, CORRECT).any(1))


def test_lower_clip_and_dual_floor_have_no_effect_on_positive_advantages(policy):
    rows = made_up_rows([1.0] * 6)
    clippings = (PPO, partial(clip.ppo, low=0.9, high=0.2), partial(clip.dual, low=0.2, high=0.2, c=3.0))
    first, *others = [
        gradient(policy, PolicyObjective(ratio.token, clipping, None, 0.0), rows) for clipping in clippings
    ]
    for other in others:
        assert torch.equal(first, other)


def test_only_reinforce_and_remove_all_correct_learn_from_an_all_wrong_prompt():
    rewards, correct = torch.full((1, 4), -1.0), torch.zeros(1, 4, dtype=torch.bool)
    plain_reward = advantage.reward(rewards)
    assert not select.best(rewards, correct).any()
    assert not select.mixed_prompts(rewards, correct).any()
    assert not select.not_all_wrong(rewards, correct).any()
    assert advantage.group(rewards).abs().max() == 0
    assert (plain_reward * select.all_samples(rewards, correct)).tolist() == [[-1.0] * 4]
    assert (plain_reward * select.not_all_correct(rewards, correct)).tolist() == [[-1.0] * 4]
