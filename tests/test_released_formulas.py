"""The formulas of the released code (RLHFlow/Minimal-RL, a fork of verl), written out in plain Python, against ours.

Nothing of torch is in the derivations: loops over numbers, from the descriptions of `core_algos.py`. Winnow's side is a
whole iteration composed by `experiment=release/…`, from rewards to the loss of an optimiser batch and its gradient.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch

from benchmarks.parity.numbers import PROMPTS, SAMPLES, Numbers, numbers
from benchmarks.parity.our_side import our_loss
from winnow.ops import advantage, aggregate
from winnow.ops.advantage import whiten_tokens

LOW, HIGH, C = 0.2, 0.2, 3.0  # ppo_trainer.yaml
KL_COEF, KL_CLAMP, ENTROPY = 0.001, 10.0, 0.001
Advantages = Callable[[list[float]], list[float]]


def raft(rewards: list[float]) -> list[float]:
    """compute_raft_outcome_advantage: what is below 0 becomes 0."""
    return [max(r, 0.0) for r in rewards]


def reinforce_rej(rewards: list[float]) -> list[float]:
    """compute_reinforce_rej_outcome_advantage: the reward itself where the prompt's rewards have a spread."""
    return rewards if stdev(rewards) > 0 else [0.0] * len(rewards)


def grpo(rewards: list[float]) -> list[float]:
    """compute_grpo_outcome_advantage: over the unbiased standard deviation plus 1e-6."""
    return [(r - fmean(rewards)) / (stdev(rewards) + 1e-6) for r in rewards]


def plusplus(logprob: float, old: float, advantage: float) -> tuple[float, float]:
    """compute_policy_loss: a token's loss and its derivative by log π; with A < 0 it is at most −A · c."""
    s = math.exp(logprob - old)
    plain, clipped = -advantage * s, -advantage * min(max(s, 1 - LOW), 1 + HIGH)
    loss = max(plain, clipped)
    if advantage < 0:
        loss = min(loss, -advantage * C)
    return loss, plain if loss == plain else 0.0


def vanilla(logprob: float, old: float, advantage: float) -> tuple[float, float]:
    """compute_policy_loss_vanilla: no ratio and no clipping."""
    return -advantage * logprob, -advantage


def low_var_kl(logprob: float, reference: float) -> tuple[float, float]:
    """kl_penalty: k3, each estimate clamped to ±10, with its derivative."""
    d = reference - logprob
    estimate = math.exp(d) - d - 1
    return min(estimate, KL_CLAMP), 1 - math.exp(d) if estimate < KL_CLAMP else 0.0


def released(of: Numbers, advantages: Advantages, loss_of: Callable) -> tuple[float, list[list[float]]]:
    """The loss of all responses as one batch, by the mean over their tokens, and its derivatives."""
    count = sum(map(len, of.current))
    total, slopes = 0.0, []
    for p in range(PROMPTS):
        for g, a in enumerate(advantages(of.rewards[p, :, 0].tolist())):
            i, slope = p * SAMPLES + g, []
            rows = (each[i].tolist() for each in (of.current, of.old, of.reference, of.entropies))
            for now, old, reference, entropy in zip(*rows, strict=True):
                loss, by_now = loss_of(now, old, a)
                kl, kl_by_now = low_var_kl(now, reference)
                total += (loss + KL_COEF * kl - ENTROPY * entropy) / count
                slope.append((by_now + KL_COEF * kl_by_now) / count)
            slopes.append(slope)
    return total, slopes


@pytest.mark.parametrize("spread", [0.3, 2.0])
@pytest.mark.parametrize(
    ("experiment", "advantages", "loss_of"),
    [
        ("raft", raft, vanilla),
        ("raftpp", raft, plusplus),
        ("reinforce_rej", reinforce_rej, plusplus),
        ("grpo", grpo, plusplus),
    ],
)
def test_a_release_preset_is_the_released_formula(experiment: str, advantages: Advantages, loss_of, spread: float):
    """At log-ratios of some 2 the dual clip and the clamp of the KL bind as well."""
    of = numbers(1, spread)
    value, slopes = released(of, advantages, loss_of)
    ours = our_loss((f"experiment=release/{experiment}",), of, budget=24)
    assert ours.value == pytest.approx(value, rel=1e-9)
    for found, expected in zip(ours.gradient, slopes, strict=True):
        assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_the_authors_rewards_of_plus_and_minus_one_make_wrong_answers_of_mixed_prompts_negative():
    """Issue 6 of their repository: with 0 and 1, as the code has it, Reinforce-Rej has no negative advantage."""
    of = numbers(1)
    signed = replace(of, rewards=torch.cat([2 * of.rewards[..., :1] - 1, of.rewards[..., 1:]], 2))
    value, slopes = released(signed, reinforce_rej, plusplus)
    ours = our_loss(("experiment=release/reinforce_rej",), signed)
    assert ours.value == pytest.approx(value, rel=1e-9)
    assert ours.gradient[1].tolist() == pytest.approx(slopes[1], rel=1e-9)
    assert value != pytest.approx(released(of, reinforce_rej, plusplus)[0], rel=1e-3)


def test_by_hand_where_the_dual_clip_binds():
    """s = e² = 7.389: for A = −1 the loss is min(max(7.389, 1.2), 3) = 3, and for A = 1 max(−7.389, −1.2) = −1.2."""
    assert plusplus(0.0, -2.0, -1.0) == (3.0, 0.0)
    assert plusplus(0.0, -2.0, 1.0) == (-1.2, 0.0)
    assert plusplus(-2.0, 0.0, 1.0) == pytest.approx((-0.1353, -0.1353), abs=1e-4)


@pytest.mark.parametrize(
    ("right", "levels"), [(0, (0, 0)), (1, (1.5, -0.5)), (2, (0.866, -0.866)), (3, (0.5, -1.5)), (4, (0, 0))]
)
def test_levels_of_grpos_advantage_for_four_samples(right: int, levels: tuple[float, float]):
    """n = 4 and 0/1: one right has mean ¼ and deviation ½, so (1 − ¼)/½ and −¼/½."""
    rewards = [1.0] * right + [0.0] * (4 - right)
    expected = [levels[0]] * right + [levels[1]] * (4 - right)
    assert grpo(rewards) == pytest.approx(expected, abs=1e-3)
    for shift in (0.0, 2.0):
        found = advantage.group(torch.tensor([rewards], dtype=torch.float64) + shift)[0].tolist()
        assert found == pytest.approx(grpo(rewards), abs=1e-12)


LENGTHS = [2, 1, 4]
LOSSES = [[1.0, 2.0], [5.0], [0.5, -1.0, 3.0, 0.0]]


@pytest.mark.parametrize(
    ("rule", "mode", "by_hand"),
    [
        (aggregate.token_mean, "token-mean", (3 + 5 + 2.5) / 7),
        (aggregate.sequence_mean, "seq-mean-token-mean", (1.5 + 5 + 0.625) / 3),
        (aggregate.sequence_sum, "seq-mean-token-sum", (3 + 5 + 2.5) / 3),
        (lambda lengths: aggregate.constant_length(lengths, 8), "seq-mean-token-sum-norm, over the rows", 10.5 / 24),
    ],
)
def test_agg_loss(rule: Callable, mode: str, by_hand: float):
    """verl's `agg_loss`. Its `seq-mean-token-sum-norm` divides by the length alone, Dr. GRPO's by the rows too."""
    weights, parts = rule(torch.tensor(LENGTHS))
    found = sum(w * sum(row) for w, row in zip(weights.tolist(), LOSSES, strict=True)) / float(parts.sum())
    assert found == pytest.approx(by_hand), mode


def test_rloo_is_the_leave_one_out_baseline():
    """verl: n/(n − 1) · (r − mean). For 1, 0, 0, 1: 4/3 · ½ = ⅔; against the others' mean of ⅓ the same."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    found = advantage.group(rewards, centre="leave_one_out", scale="none")[0].tolist()
    assert found == pytest.approx([4 / 3 * (r - 0.5) for r in (1, 0, 0, 1)])


def test_gae_of_the_ppo_script_with_its_whitening():
    """γ = λ = 1: A_t = R − V_t. With rewards 1 and 0 and values below: 0.5, 0.75 and −0.25; masked_whiten: unbiased."""
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    values = torch.tensor([[9.0, 0.5, 0.25], [9.0, 0.25, 9.0]], dtype=torch.float64)
    response = torch.tensor([[False, True, True], [False, True, False]])
    found, returns = advantage.gae(rewards, values, response)
    assert found[response].tolist() == [0.5, 0.75, -0.25]
    assert returns[response].tolist() == [1.0, 1.0, 0.0]
    mean, variance = fmean([0.5, 0.75, -0.25]), stdev([0.5, 0.75, -0.25]) ** 2
    expected = [(a - mean) / math.sqrt(variance + 1e-8) for a in (0.5, 0.75, -0.25)]
    assert whiten_tokens(found, response)[response].tolist() == pytest.approx(expected)


def test_reinforce_plus_plus_whitens_the_rewards_of_the_iteration():
    rewards = [[1.0, 0.0], [0.0, 0.0]]
    every = [r for row in rewards for r in row]
    expected = [(r - fmean(every)) / (stdev(every) + 1e-6) for r in every]
    found = advantage.whitened(torch.tensor(rewards, dtype=torch.float64))
    assert found.flatten().tolist() == pytest.approx(expected)


def test_online_dpos_loss_with_its_smoothing():
    """β = 0.1 and a margin of 5: −0.9 · log σ(0.5) − 0.1 · log σ(−0.5)."""
    from winnow.ops.preference import sigmoid

    chosen, rejected = torch.tensor([[3.0], [-2.0]], dtype=torch.float64)
    found = float(sigmoid(chosen, rejected, 0.1, 0.1))
    log_sigmoid = [-math.log1p(math.exp(-x)) for x in (0.5, -0.5)]
    assert found == pytest.approx(-0.9 * log_sigmoid[0] - 0.1 * log_sigmoid[1])
