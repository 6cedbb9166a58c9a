"""Losses and metrics of objectives on batches small enough to compute by hand.

Row 0 has a response of three tokens and weight ½, row 1 one of two tokens and weight 1; the optimiser batch has
denominator 4. A token of row 0 therefore has weight ⅛ and one of row 1 ¼. Outside of the responses stand arbitrary
numbers, which must have no effect.
"""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from winnow.algorithm import PolicyGradient
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.errors import ConfigError
from winnow.objectives import KL, PolicyObjective, PreferenceObjective, ValueObjective
from winnow.ops import clip, kl, preference, ratio
from winnow.packed import pack
from winnow.types import Batch, Mean, PairBatch, Row, SampleFacts

JUNK = 7.0
PPO = partial(clip.ppo, low=0.2, high=0.2)


def rows(first: tuple[float, float, float], second: tuple[float, float], elsewhere: float = JUNK) -> Tensor:
    """(2, 4): a prompt token, then the responses, the shorter one padded."""
    return torch.tensor([[elsewhere, *first], [elsewhere, *second, elsewhere]], dtype=torch.float64)


LOGPROBS = rows((-1, -2, -3), (-1, -4))
ADVANTAGES = rows((2, 2, 2), (-1, -1), elsewhere=0)
RATIOS = rows((1.5, 1.25, 0.5), (2, 0.5), elsewhere=3)
RESPONSE = rows((1, 1, 1), (1, 1), elsewhere=0) == 1
TOKEN_WEIGHT = rows((1 / 8, 1 / 8, 1 / 8), (1 / 4, 1 / 4), elsewhere=0)
DELTAS = rows((2, 2, 0), (-2, 0))
"""log π − log π_ref; half their squares are 2, 2, 0 and 2, 0, a weighted sum of 4/8 + 2/4 = 1."""
POLICY_LOSS = 0.25
"""−[⅛ · 2 · (−1 − 2 − 3) + ¼ · (−1) · (−1 − 4)] = −[−1.5 + 1.25]"""


@pytest.fixture
def batch() -> Batch:
    return Batch(
        response=RESPONSE,
        row_weight=torch.tensor([0.5, 1.0], dtype=torch.float64),
        denominator=4.0,
        num_micro_batches=2,
        advantages=ADVANTAGES,
        old_logprobs=LOGPROBS - RATIOS.log(),
        ref_logprobs=LOGPROBS - DELTAS,
        values=rows((0, 0, 0), (-1, 2)),
        returns=rows((1, 1, 2), (1, 3)),
    )


def plain(term: KL | None = None, entropy: float = 0.0) -> PolicyObjective:
    return PolicyObjective(ratio.log_probability, clip.unclipped, term, entropy)


def value_and_slope(objective: PolicyObjective, batch: Batch) -> tuple[float, Tensor]:
    """The loss at `LOGPROBS` and its derivative by each of them."""
    logprobs = LOGPROBS.clone().requires_grad_()
    loss = objective(logprobs, None, batch).value
    loss.backward()
    assert logprobs.grad is not None
    return loss.item(), logprobs.grad


def with_filler_row(batch: Batch) -> Batch:
    return replace(batch, row_weight=torch.tensor([0.5, 0.0], dtype=torch.float64))


def test_likelihood_rises_with_a_positive_and_falls_with_a_negative_advantage(batch: Batch):
    value, slope = value_and_slope(plain(), batch)
    assert value == pytest.approx(POLICY_LOSS)
    # −⅛ · 2 and −¼ · (−1)
    torch.testing.assert_close(slope, rows((-0.25, -0.25, -0.25), (0.25, 0.25), elsewhere=0))


def test_token_ratio_unclipped(batch: Batch):
    """−[⅛ · 2 · (1.5 + 1.25 + 0.5) + ¼ · (−1) · (2 + 0.5)] = −0.8125 + 0.625"""
    value, slope = value_and_slope(PolicyObjective(ratio.token, clip.unclipped, None, 0.0), batch)
    assert value == pytest.approx(-0.1875)
    # The derivative of a ratio by its log-probability is the ratio.
    torch.testing.assert_close(slope, -TOKEN_WEIGHT * RATIOS * ADVANTAGES)


def test_token_ratio_clipped(batch: Batch):
    """−[⅛ · 2 · (1.2 + 1.2 + 0.5) + ¼ · (−1) · (2 + 0.8)] = −0.725 + 0.7; clipped tokens have no gradient."""
    value, slope = value_and_slope(PolicyObjective(ratio.token, PPO, None, 0.0), batch)
    assert value == pytest.approx(-0.025)
    torch.testing.assert_close(slope, rows((0, 0, -0.125), (0.5, 0), elsewhere=0))


def test_kl_in_the_loss_is_added(batch: Batch):
    value, slope = value_and_slope(plain(KL(kl.k2, coef=0.1)), batch)
    assert value == pytest.approx(POLICY_LOSS + 0.1 * 1)
    _, without = value_and_slope(plain(), batch)
    # 0.1 · ⅛ · 2 and 0.1 · ¼ · (−2): a log-probability above the reference is lowered, one below it raised.
    torch.testing.assert_close(slope - without, rows((0.025, 0.025, 0), (-0.05, 0), elsewhere=0))


def test_kl_in_the_reward_is_not_in_the_loss(batch: Batch):
    value, _ = value_and_slope(plain(KL(kl.k2, coef=0.1, place="reward")), batch)
    assert value == pytest.approx(POLICY_LOSS)


def test_the_kl_of_a_token_is_clamped_on_both_sides(batch: Batch):
    """At most 1 instead of 2: half the penalty, and no gradient."""
    value, slope = value_and_slope(plain(KL(kl.k2, coef=0.1, clamp=1.0)), batch)
    assert value == pytest.approx(POLICY_LOSS + 0.1 * 0.5)
    torch.testing.assert_close(slope, value_and_slope(plain(), batch)[1])
    deltas = torch.tensor([3.0, 1.0, -1.0, -3.0])
    clamped = KL(kl.k1, coef=1.0, clamp=2.0)(deltas, torch.zeros(4))
    assert clamped.tolist() == [2.0, 1.0, -1.0, -2.0]


def test_entropy_is_subtracted(batch: Batch):
    """⅛ · (1 + 2 + 1) + ¼ · (2 + 0) = 1"""
    entropies = rows((1, 2, 1), (2, 0)).requires_grad_()
    loss = plain(entropy=0.01)(LOGPROBS, entropies, batch).value
    assert loss.item() == pytest.approx(POLICY_LOSS - 0.01 * 1)
    loss.backward()
    torch.testing.assert_close(entropies.grad, -0.01 * TOKEN_WEIGHT)


@pytest.mark.parametrize("rule", [ratio.log_probability, ratio.token])
def test_a_row_of_weight_zero_has_no_effect(batch: Batch, rule):
    """The loss is that of the first row alone, ⅛ per token, whatever the second holds."""
    objective = PolicyObjective(rule, PPO if rule is ratio.token else clip.unclipped, KL(kl.k2, coef=0.1), 0.01)
    entropies = rows((1, 2, 1), (2, 0))
    # 1.5 or −0.725 for the policy, +0.1 · 4/8 for the KL, −0.01 · 4/8 for the entropy
    expected = (-0.725 if rule is ratio.token else 1.5) + 0.05 - 0.005
    for second in (LOGPROBS[1], LOGPROBS[1] - 3):
        logprobs = torch.stack([LOGPROBS[0], second]).requires_grad_()
        loss = objective(logprobs, entropies, with_filler_row(batch))
        assert loss.value.item() == pytest.approx(expected)
        loss.value.backward()
        assert logprobs.grad is not None
        assert logprobs.grad[1].tolist() == [0.0] * 4
        if rule is ratio.token:
            # Two tokens above 1.2 of three; the second row's would make it two of five.
            assert loss.metrics["train/clip_frac"] == Mean(2, 3)
            assert loss.metrics["train/ratio/mean"].value == pytest.approx(3.25 / 3)


DPPO = partial(clip.dppo, low=0.2, high=0.2, cap=20.0)


def test_dppo_measures_from_the_sampler_and_weighs_by_the_ratio(batch: Batch):
    """π = ½ and π_old = ¼ at two tokens with A > 0: from μ = 0.4 the change is 0.1, from μ = 0.2 it is 0.3."""
    old, sampled = torch.tensor([[0.25, 0.25]]).log(), torch.tensor([[0.4, 0.2]]).log()
    terms = Batch(torch.ones(1, 2, dtype=torch.bool), torch.ones(1), 1.0, 1, torch.ones(1, 2), old)
    objective = PolicyObjective(ratio.token, DPPO, None, 0.0)
    # Each gradient is −π/π_old · A = −2; without the sampler's numbers the old ones are its, 0.25 away.
    for given, slope in ((replace(terms, sampler_logprobs=sampled), [-2.0, 0.0]), (terms, [0.0, 0.0])):
        logprobs = torch.tensor([[0.5, 0.5]]).log().requires_grad_()
        found = torch.autograd.grad(objective(logprobs, None, given).value, logprobs)[0]
        assert found.tolist() == [pytest.approx(slope)]


def test_negative_responses_are_left_out_by_their_distance_from_the_sampler():
    """Mean log μ/π is 0.6 in the first row and 0.4 in the second, while log π_old/π is 0.4 and 0.6; the bound is ½."""
    old, sampled = torch.tensor([[-0.6], [-0.4]]), torch.tensor([[-0.4], [-0.6]])
    every, minus = torch.ones(2, 1, dtype=torch.bool), torch.full((2, 1), -1.0)
    rule = partial(clip.stale_negatives_left_out, low=0.9, high=0.9, delta=0.5)
    logprobs = torch.full((2, 1), -1.0, requires_grad=True)
    terms = Batch(every, torch.ones(2), 1.0, 1, minus, old, sampler_logprobs=sampled)
    value = PolicyObjective(ratio.token, rule, None, 0.0)(logprobs, None, terms).value
    assert torch.autograd.grad(value, logprobs)[0].tolist() == [[0.0], [pytest.approx(math.exp(-0.6))]]


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        (PPO, [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]),  # A > 0 above 1.2, A < 0 below 0.8
        (partial(clip.cispo, low=1.0, high=0.2), [0] * 5, [1, 1, 0, 1, 0]),  # held above 1.2
        (partial(clip.cispo, low=0.4, high=0.6), [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]),  # and below 0.6
        (partial(clip.sapo, positive=1.0, negative=1.05), [0] * 5, [0] * 5),  # smaller, and never held
        (partial(clip.vespo, k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0), [0] * 5, [0] * 5),
        (clip.topr, [0] * 5, [0, 0, 0, 1, 0]),  # A > 0 reads no ratio, A < 0 is held above 1
        (DPPO, [0] * 5, [0] * 5),  # π is at most e^−1: no probability has changed by 0.2
        (partial(clip.dppo, low=0.01, high=0.1, cap=20.0), [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]),  # 0.12 up, 0.02 down
        (partial(clip.dppo, low=1.0, high=1.0, cap=1.3), [0] * 5, [1, 0, 0, 1, 0]),  # its cap holds 1.5 and 2
        (partial(clip.cpgd, low=0.2, high=0.2), [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]),  # removed as by PPO
        (clip.unclipped, [0] * 5, [0] * 5),
    ],
)
def test_the_tokens_that_count_as_clipped(batch: Batch, rule, low: list[int], high: list[int]):
    """Ratios 1.5, 1.25 and 0.5 with A = 2, then 2 and 0.5 with A = −1."""
    metrics = PolicyObjective(ratio.token, rule, None, 0.0)(LOGPROBS, None, batch).metrics
    assert metrics["train/clip_frac/low"] == Mean(sum(low), 5)
    assert metrics["train/clip_frac/high"] == Mean(sum(high), 5)
    assert metrics["train/clip_frac"] == Mean(sum(low) + sum(high), 5)


def test_metrics_of_the_policy(batch: Batch):
    """Five tokens, of which 1.5 and 1.25 are clipped above and, with a negative advantage, 0.5 below."""
    metrics = PolicyObjective(ratio.token, PPO, KL(kl.k2, coef=0.1), 0.0)(LOGPROBS, None, batch).metrics
    assert metrics["train/clip_frac"] == Mean(3, 5)
    assert metrics["train/clip_frac/high"] == Mean(2, 5)
    assert metrics["train/clip_frac/low"] == Mean(1, 5)
    assert metrics["train/ratio/mean"].value == pytest.approx((1.5 + 1.25 + 0.5 + 2 + 0.5) / 5)
    # Σ (r − 1 − log r)
    assert metrics["train/kl_old"].value == pytest.approx((0.75 - math.log(1.5 * 1.25 * 0.5 * 2 * 0.5)) / 5)
    # The batch is half of an optimiser batch, and the losses of the halves add up.
    parts = {"train/loss/policy": -0.025, "train/loss/kl": 1.0, "train/loss/total": -0.025 + 0.1}
    for name, expected in parts.items():
        assert metrics[name].total == pytest.approx(expected)
        assert metrics[name].count == 0.5


def masses(objective: PolicyObjective, batch: Batch) -> tuple[float, float]:
    """The gradient mass of tokens with positive and with negative advantage, of half an optimiser batch."""
    metrics = objective(LOGPROBS.clone().requires_grad_(), None, batch).metrics
    positive, negative = metrics["train/gradient_mass/positive"], metrics["train/gradient_mass/negative"]
    assert positive.count == negative.count == 0.5
    return float(positive.total), float(negative.total)


@pytest.mark.parametrize(
    ("rule", "clipping", "positive", "negative"),
    [
        # 3 · ⅛ · 2 and 2 · ¼ · 1
        (ratio.log_probability, clip.unclipped, 0.75, 0.5),
        (ratio.token, clip.unclipped, 0.25 * (1.5 + 1.25 + 0.5), 0.25 * (2 + 0.5)),
        # Clipped are 1.5 and 1.25, and the 0.5 of a negative advantage.
        (ratio.token, PPO, 0.25 * 0.5, 0.25 * 2),
        # Clipped tokens keep a gradient of their clipped weight.
        (ratio.token, partial(clip.cispo, low=0.2, high=0.2), 0.25 * (1.2 + 1.2 + 0.8), 0.25 * (1.2 + 0.8)),
        # Ratios 1.5 · 1.25 · 0.5 and 2 · 0.5 at three and two tokens, each of which depends on every token of the row.
        (ratio.sequence_product, clip.unclipped, 3 * 0.75 * 0.9375, 2 * 0.5 * 1),
    ],
)
def test_gradient_mass_by_the_sign_of_the_advantage(batch: Batch, rule, clipping, positive: float, negative: float):
    objective = PolicyObjective(rule, clipping, None, 0.0)
    assert masses(objective, batch) == pytest.approx((positive, negative))
    assert masses(objective, with_filler_row(batch)) == pytest.approx((positive, 0))


def test_gradient_mass_is_of_the_advantages_alone(batch: Batch):
    assert masses(plain(KL(kl.k2, coef=0.1)), batch) == pytest.approx((0.75, 0.5))


def test_without_a_gradient_there_is_no_gradient_mass(batch: Batch):
    assert not any(key.startswith("train/gradient_mass/") for key in plain()(LOGPROBS, None, batch).metrics)


VALUES = rows((1, 0, 0), (-1, 3))
"""The old values are 0, 0, 0 and −1, 2, so that the first and the last have moved by 1."""


def test_value_loss(batch: Batch):
    """The clip is ½, and the sum is ⅛ · 2.625 + ¼ · 2.125.

    Row 0 has returns 1, 1, 2 and losses ½·(½)² (the value is exact, but the clipped one is ½ off), ½·1² and ½·2²; row 1
    has returns 1, 3 and losses ½·2² and ½·(½)².
    """
    values = VALUES.clone().requires_grad_()
    loss = ValueObjective(clip=0.5)(values, batch)
    assert loss.value.item() == pytest.approx(2.625 / 8 + 2.125 / 4)
    assert loss.metrics["train/loss/value"].total == pytest.approx(2.625 / 8 + 2.125 / 4)
    assert loss.metrics["train/loss/value"].count == 0.5
    assert loss.metrics["train/value/clip_frac"] == Mean(2, 5)
    loss.value.backward()
    # weight · (value − return) where the value itself has the larger loss
    torch.testing.assert_close(values.grad, rows((0, -1 / 8, -2 / 8), (-2 / 4, 0), elsewhere=0))


def test_value_loss_of_a_row_of_weight_zero(batch: Batch):
    values = VALUES.clone().requires_grad_()
    loss = ValueObjective(clip=0.5)(values, with_filler_row(batch))
    assert loss.value.item() == pytest.approx(2.625 / 8)
    assert loss.metrics["train/value/clip_frac"] == Mean(1, 3)
    loss.value.backward()
    assert values.grad is not None
    assert values.grad[1].tolist() == [0.0] * 4


BETA = 0.5
CHOSEN = torch.tensor([[JUNK, -1, -2], [JUNK, -3, JUNK]], dtype=torch.float64)
REJECTED = torch.tensor([[JUNK, -2, JUNK, JUNK], [JUNK, -1, -1, -1]], dtype=torch.float64)


def side(response: list[list[int]], reference: Tensor, weight: tuple[float, float]) -> Batch:
    return Batch(
        response=torch.tensor(response) == 1,
        row_weight=torch.tensor(weight, dtype=torch.float64),
        denominator=4.0,
        num_micro_batches=2,
        ref_logprobs=reference,
    )


def two_pairs(weight: tuple[float, float] = (1.0, 1.0)) -> PairBatch:
    """Two pairs of an optimiser batch of four, with log-ratios (chosen, rejected) of (3, −1) and (−1, 2)."""
    ref_chosen = torch.tensor([[0, -2, -4], [0, -2, 0]], dtype=torch.float64)
    ref_rejected = torch.tensor([[0, -1, 0, 0], [0, -1, -2, -2]], dtype=torch.float64)
    return PairBatch(
        pack([Row((0,) * length, 1) for length in (3, 2, 2, 4)]),  # the objective does not read tokens
        side([[0, 1, 1], [0, 1, 0]], ref_chosen, weight),
        side([[0, 1, 0, 0], [0, 1, 1, 1]], ref_rejected, weight),
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def dpo(smoothing: float) -> PreferenceObjective:
    return PreferenceObjective(preference.sigmoid, preference.reverse_kl, BETA, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_preference_loss(smoothing: float):
    """Margins 4 and −3, times β: 2 and −1.5."""
    loss = dpo(smoothing)(CHOSEN, REJECTED, two_pairs()).value
    right = -math.log(sigmoid(2)) - math.log(sigmoid(-1.5))
    wrong = -math.log(sigmoid(-2)) - math.log(sigmoid(1.5))
    assert loss.item() == pytest.approx(((1 - smoothing) * right + smoothing * wrong) / 4)


def test_preference_raises_the_chosen_and_lowers_the_rejected():
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    dpo(0.0)(chosen, rejected, two_pairs()).value.backward()
    easy, hard = BETA * sigmoid(-2) / 4, BETA * sigmoid(1.5) / 4
    expected = torch.tensor([[0, -easy, -easy], [0, -hard, 0]], dtype=torch.float64)
    torch.testing.assert_close(chosen.grad, expected)
    expected = torch.tensor([[0, easy, 0, 0], [0, hard, hard, hard]], dtype=torch.float64)
    torch.testing.assert_close(rejected.grad, expected)


def test_metrics_of_preference():
    loss = dpo(0.0)(CHOSEN, REJECTED, two_pairs())
    assert loss.metrics["train/dpo/acc"] == Mean(1, 2)
    assert loss.metrics["train/dpo/margin"] == Mean(BETA * (4 - 3), 2)
    assert loss.metrics["train/dpo/reward_chosen"] == Mean(BETA * (3 - 1), 2)
    assert loss.metrics["train/dpo/reward_rejected"] == Mean(BETA * (-1 + 2), 2)
    assert loss.metrics["train/dpo/logp_chosen"] == Mean(-3 - 3, 2)
    assert loss.metrics["train/dpo/logp_rejected"] == Mean(-2 - 3, 2)
    for name in ("train/loss/policy", "train/loss/total"):
        assert loss.metrics[name] == Mean(loss.value.item(), 0.5)


def test_gradient_mass_of_chosen_and_rejected():
    """Pair 0 has two chosen tokens and one rejected, pair 1 one and three."""
    metrics = dpo(0.0)(CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_(), two_pairs()).metrics
    easy, hard = BETA * sigmoid(-2) / 4, BETA * sigmoid(1.5) / 4
    for sign, expected in (("positive", 2 * easy + hard), ("negative", easy + 3 * hard)):
        assert metrics[f"train/gradient_mass/{sign}"].total == pytest.approx(expected)
        assert metrics[f"train/gradient_mass/{sign}"].count == 0.5


def test_a_pair_of_weight_zero_has_no_effect():
    loss = dpo(0.0)(CHOSEN, REJECTED, two_pairs(weight=(1.0, 0.0)))
    assert loss.value.item() == pytest.approx(-math.log(sigmoid(2)) / 4)
    assert loss.metrics["train/dpo/acc"] == Mean(1, 1)
    assert loss.metrics["train/dpo/margin"] == Mean(BETA * 4, 1)
    assert loss.metrics["train/dpo/logp_rejected"] == Mean(-2, 1)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"clip": lambda r, a: (r * a).mean(1)}, r"algo\.clip: <lambda> returned shape \(2,\).*\(2, 4\)"),
        ({"clip": lambda r, a: 1.0}, r"algo\.clip: <lambda> returned a float"),
        ({"ratio": lambda new, old, response: new[:, :1]}, r"algo\.ratio: <lambda> returned shape \(2, 1\)"),
    ],
)
def test_a_rule_of_ones_own_that_returns_another_shape_is_named(batch: Batch, rules: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        replace(plain(), **rules)(LOGPROBS, None, batch)


def test_an_advantage_of_one_number_a_prompt_is_not_broadcast_over_as_many_samples():
    """(P,) would become a row of (P, G) in silence where P = G."""
    algorithm = build_algorithm(composed("train", ["algo=grpo"]))
    assert isinstance(algorithm, PolicyGradient)
    mine = replace(algorithm, advantage=lambda rewards: rewards.mean(1))
    every = torch.ones(4, 4, dtype=torch.bool)
    with pytest.raises(ConfigError, match=r"algo\.advantage: <lambda> returned shape \(4,\).*\(4, 4\)"):
        mine.advantages(torch.ones(4, 4), None, every, SampleFacts.of_verdicts(torch.ones(4, 4), every))
