"""Rules of the algorithms since the paper, each against numbers that a person can check."""

from functools import partial
from math import e, exp, log, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from winnow.ops import advantage, aggregate, clip, kl, preference, ratio

ALL = torch.ones(2, 4, dtype=torch.bool)


def near(expected: object) -> Any:
    return pytest.approx(expected, abs=1e-6)


def slope(surrogate: Tensor, *of: Tensor) -> list[list[float]]:
    return [
        found.tolist() for found in torch.autograd.grad(surrogate.sum(), of, allow_unused=True, materialize_grads=True)
    ]


# Advantages.


def test_the_deviation_of_an_iteration_divides_what_each_prompts_mean_has_left():
    """Rewards 1, 1, 1, 0 and 0, 0, 0, 0: mean ¾ and 0, and their standard deviation is √(15/56)."""
    rewards = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = advantage.batch(rewards, ALL, eps=0.0)
    of = sqrt(15 / 56)
    assert found.tolist() == [near([0.25 / of] * 3 + [-0.75 / of]), [0.0] * 4]
    # The centred ones have squares that add up to 3/4, over 7 degrees of freedom.
    assert advantage.batch(rewards, ALL, spread="advantages", eps=0.0)[0, 3].item() == near(-0.75 / sqrt(0.75 / 7))


def test_samples_that_are_not_usable_count_nowhere_in_the_deviation_of_an_iteration():
    rewards = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    usable = torch.tensor([[True, True, False], [True, True, True]])
    found = advantage.batch(rewards, usable, eps=0.0)
    std = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]).std().item()
    assert found.tolist() == [near([0.5 / std, -0.5 / std, 0.0]), near([1 / 3 / std, 1 / 3 / std, -2 / 3 / std])]


def test_an_iteration_of_equal_rewards_has_no_advantage():
    assert not advantage.batch(torch.full((2, 4), 0.7), ALL).any()
    tied = torch.full((2, 4, 2), 0.7)
    assert not advantage.each_reward(torch.zeros(2, 4), tied, torch.ones(2), ALL).any()
    assert not advantage.length_weighted(torch.full((2, 4), 0.7), torch.arange(1, 9).view(2, 4)).any()


def test_a_verdict_over_the_pass_rate():
    """1 of 4 correct: (1 − ¼)/¼ = 3 and −1; none correct: nothing."""
    correct = torch.tensor([[True, False, False, False], [False] * 4])
    found = advantage.over_pass_rate(torch.zeros(2, 4), correct)
    assert found.tolist() == [[3.0, -1.0, -1.0, -1.0], [0.0] * 4]


def test_maxrls_advantages_are_the_gradient_of_a_truncated_logarithm_of_the_pass_rate():
    """The mean over all groups of G verdicts is that of −Σ_{k<G} (1 − p)^k / k, i.e. Σ_{k<G−1} (1 − p)^k · ∇p."""
    p, size = 0.3, 4
    total = 0.0
    for bits in range(2**size):
        verdicts = torch.tensor([[bool(bits >> i & 1) for i in range(size)]])
        chance = torch.where(verdicts, p, 1 - p).prod().item()
        scores = torch.where(verdicts, 1 / p, -1 / (1 - p))  # ∂ log probability / ∂ p
        advantages = advantage.over_pass_rate(torch.zeros(1, size), verdicts)
        total += chance * (advantages * scores).mean().item()
    assert total == near(sum((1 - p) ** k for k in range(size - 1)))


def test_a_baseline_in_which_samples_count_by_their_length():
    """Rewards 1, 0 and 0 of 1, 1 and 2 tokens: the baseline is ¼."""
    found = advantage.length_weighted(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1, 1, 2]]))
    assert found.tolist() == [[0.75, -0.25, -0.25]]


def test_each_reward_is_standardised_before_they_are_added():
    """A second reward of a thousandth of the size counts as much as the first."""
    large = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    small = 1e-3 * torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    parts = torch.stack([large, small], 2)
    found = advantage.each_reward(large + small, parts, torch.tensor([1.0, 1.0]), ALL[:, :2], eps=0.0)
    # √2 · (±½ ± ½) in the first prompt, where both agree, and 0 in the second; their deviation is √(2/3) · √2.
    assert found.tolist() == [near([sqrt(1.5), -sqrt(1.5)]), near([0.0, 0.0])]
    scaled = advantage.each_reward(
        large, parts * torch.tensor([5.0, 0.2]), torch.tensor([1.0, 1.0]), ALL[:, :2], eps=0.0
    )
    torch.testing.assert_close(scaled, found)


def test_the_advantage_for_the_chance_of_one_in_k():
    """G = 4, k = 2, one correct: ρ = 1 − C(3,2)/C(4,2) = ½, σ = ½; a wrong one has (½ − C(2,1)/C(3,1)) / ½ = −⅓."""
    correct = torch.tensor([[True, False, False, False], [True] * 4])
    found = advantage.pass_at_k(torch.zeros(2, 4), correct, k=2, eps=0.0)
    assert found[0].tolist() == near([1.0, -1 / 3, -1 / 3, -1 / 3])
    ends = advantage.pass_at_k(torch.zeros(2, 4), torch.tensor([[True] * 4, [False] * 4]), k=2)
    assert ends.tolist() == [[0.0] * 4, [0.0] * 4]


@pytest.mark.parametrize("k", [4, 5])
def test_k_samples_of_no_more_say_nothing_of_each(k: int):
    """All four samples are one choice: whether it has a correct one does not depend on which sample is meant."""
    for right in range(5):
        correct = torch.arange(4)[None] < right
        assert not advantage.pass_at_k(torch.zeros(1, 4), correct, k=k).any()


def test_a_single_sample_has_no_advantage_over_its_group():
    reward, correct, usable = torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    assert advantage.over_pass_rate(reward, correct).item() == 0.0
    assert advantage.length_weighted(reward, torch.tensor([[7]])).item() == 0.0
    assert advantage.pass_at_k(reward, correct, k=1).item() == 0.0
    assert advantage.batch(reward, usable).item() == 0.0
    assert advantage.each_reward(reward, reward[:, :, None], torch.ones(1), usable).item() == 0.0


def test_responses_without_tokens_have_no_weight_in_a_baseline():
    assert advantage.length_weighted(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 4]])).tolist() == [[1.0, 0.0]]
    assert advantage.length_weighted(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 0]])).tolist() == [[1.0, 0.0]]


def test_one_in_one_is_the_standardised_verdict():
    correct = torch.tensor([[True, False, False, True, False]])
    verdicts = correct.double()
    expected = (verdicts - verdicts.mean()) / verdicts.std(correction=0)
    torch.testing.assert_close(advantage.pass_at_k(verdicts, correct, k=1, eps=0.0), expected)


# Aggregation.


def test_the_mean_over_prompts_of_the_mean_over_their_tokens():
    weights, parts = aggregate.prompt_mean(torch.tensor([1, 3, 2]), torch.tensor([5, 5, 2]))
    assert weights.tolist() == [0.25, 0.25, 0.5]
    assert parts.tolist() == [0.5, 0.5, 1.0]


# Surrogates. Each has the gradient A at ratio 1, where nothing has moved.

LOGPROBS = torch.tensor([[log(0.5), log(0.3)]])
RULES = {
    "sapo": lambda r, a, x, old: clip.sapo(r, a, positive=1.0, negative=1.05),
    "topr": lambda r, a, x, old: clip.topr(r, a, x),
    "vespo": lambda r, a, x, old: clip.vespo(r, a, x, 2.0, 3.0, 3.0, 2.0),
    "cpgd": lambda r, a, x, old: clip.cpgd(r, a, x, old, 0.2, 0.2),
    "dppo, tv": lambda r, a, x, old: clip.dppo(r, a, x, old, 0.2, 0.2, 20.0),
    "dppo, kl": lambda r, a, x, old: clip.dppo(r, a, x, old, 0.2, 0.2, 20.0, "kl"),
    "stale negatives": lambda r, a, x, old: clip.stale_negatives_left_out(
        r, a, x, old, torch.ones_like(x, dtype=torch.bool), 0.2, 0.2, 0.5
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_every_surrogate_is_the_plain_policy_gradient_where_nothing_has_moved(name: str):
    old, logprobs = LOGPROBS, LOGPROBS.clone().requires_grad_()
    advantages = torch.tensor([[2.0, -3.0]])
    found = slope(RULES[name]((logprobs - old).exp(), advantages, logprobs, old), logprobs)
    assert found[0] == [near([2.0, -3.0])]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_every_surrogate_scales_with_the_advantage(name: str, scale: float):
    old = LOGPROBS - torch.tensor([[0.4, -0.7]])
    advantages = torch.tensor([[2.0, -3.0]])
    value, scaled = (RULES[name]((LOGPROBS - old).exp(), a, LOGPROBS, old) for a in (advantages, scale * advantages))
    torch.testing.assert_close(scaled, scale * value)


def test_a_soft_gate():
    """At r = 1 + log 3 and τ = 1: σ(log 3) · 4 = 3, and its slope 4 · ¾ · ¼ = ¾."""
    r = torch.tensor([[1 + log(3.0)]], requires_grad=True)
    gate = clip.sapo(r, torch.ones(1, 1), positive=1.0, negative=2.0)
    assert gate.item() == near(3.0)
    assert slope(gate, r)[0] == [near([0.75])]
    other = torch.tensor([[1 - log(3.0) / 2]], requires_grad=True)
    assert clip.sapo(other, -torch.ones(1, 1), positive=1.0, negative=2.0).item() == near(-0.5)


def test_bad_responses_weigh_at_most_their_ratio():
    r, advantages = torch.tensor([[4.0, 4.0, 0.5]]), torch.tensor([[1.0, -1.0, -1.0]])
    logprobs = torch.zeros(1, 3, requires_grad=True)
    assert slope(clip.topr(r, advantages, logprobs), logprobs)[0] == [[1.0, -1.0, -0.5]]


def test_a_smooth_weight_with_a_peak():
    """k = 2, λ = 3: at W = 2 the weight is 4 · e^−3; for A < 0 with k = 3, λ = 2 it is 8 · e^−2."""
    r, advantages = torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, -1.0]])
    logprobs = torch.zeros(1, 2, requires_grad=True)
    found = slope(clip.vespo(r, advantages, logprobs, 2.0, 3.0, 3.0, 2.0), logprobs)
    assert found[0] == [near([4 * exp(-3), -8 * exp(-2)])]


@pytest.mark.parametrize("k", [3.0, 8.0])
def test_a_smooth_weight_of_a_response_that_has_gone_far(k: float):
    """At W = e^±20: W^8 alone is e^160, more than float32 holds, and e^{λ(1 − W)} is 0; W^−8 is 0."""
    r, logprobs = torch.tensor([[20.0, -20.0]]).exp(), torch.zeros(1, 2, requires_grad=True)
    for sign in (1.0, -1.0):
        found = slope(clip.vespo(r, torch.full((1, 2), sign), logprobs, k, 2.0, k, 2.0), logprobs)
        assert found[0] == [near([0.0, 0.0])]


def test_a_log_ratio_within_bounds():
    """Log-ratios of ±1, and bounds at log 1.2 and log 0.8: beyond them in A's direction there is no gradient."""
    old = torch.zeros(1, 4)
    logprobs = torch.tensor([[1.0, -1.0, 1.0, -1.0]], requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    surrogate = clip.cpgd(logprobs.exp(), advantages, logprobs, old, low=0.2, high=0.2)
    assert surrogate.tolist() == [near([log(1.2), -1.0, -1.0, -log(0.8) * -1 * -1])]
    assert slope(surrogate, logprobs)[0] == [[0.0, 1.0, -1.0, 0.0]]


@pytest.mark.parametrize(
    ("before", "after", "advantages", "moves"),
    [
        (0.5, 0.65, 1.0, True),
        (0.5, 0.75, 1.0, False),  # 0.25 up, in the direction of A
        (0.5, 0.75, -1.0, True),  # up, against it
        (0.5, 0.25, -1.0, False),
        (0.001, 0.01, 1.0, True),  # a ratio of ten is a small change
    ],
)
def test_a_bound_on_the_change_of_a_probability(before: float, after: float, advantages: float, moves: bool):
    old, logprobs = torch.tensor([[log(before)]]), torch.tensor([[log(after)]], requires_grad=True)
    r = (logprobs - old).exp()
    surrogate = clip.dppo(r, torch.tensor([[advantages]]), logprobs, old, 0.2, 0.2, cap=20.0)
    assert slope(surrogate, logprobs)[0] == [near([advantages * after / before if moves else 0.0])]


def test_a_bound_on_the_kl_of_a_token_and_the_cap_of_its_ratio():
    """From ½ to ¾: KL = ½ log ⅔ + ½ log 2 = 0.1438."""
    old, logprobs = torch.tensor([[log(0.5)]]), torch.tensor([[log(0.75)]], requires_grad=True)
    for bound, moves in ((0.1438, False), (0.1439, True)):
        surrogate = clip.dppo(torch.tensor([[1.5]]), torch.ones(1, 1), logprobs, old, bound, bound, 20.0, "kl")
        assert slope(surrogate, logprobs)[0] == [near([1.5 if moves else 0.0])]
    capped = clip.dppo(torch.tensor([[1.5]]), torch.ones(1, 1), logprobs, old, 1.0, 1.0, cap=1.2)
    assert slope(capped, logprobs)[0] == [near([1.2])]


def test_negative_responses_that_the_policy_has_left_behind_are_left_out():
    """Mean log π_old/π of 0.6 and 0.4 nats, with a bound of 0.5."""
    old, response = torch.zeros(3, 2), torch.tensor([[True, True], [True, True], [True, True]])
    logprobs = torch.tensor([[-1.2, 0.0], [-0.8, 0.0], [-1.2, 0.0]])
    advantages = torch.tensor([[-1.0, -1.0], [-1.0, -1.0], [1.0, 1.0]])
    found = clip.stale_negatives_left_out(torch.ones(3, 2), advantages, logprobs, old, response, 0.2, 0.2, 0.5)
    assert found.tolist() == [[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0]]


# Ratios and corrections.


def test_tokens_are_bounded_before_the_geometric_mean():
    """Log-ratios 1 and −1: for A > 0 the first counts 0.4, for A < 0 the second −0.4."""
    logprobs, old, response = torch.tensor([[1.0, -1.0]] * 2), torch.zeros(2, 2), ALL[:, :2]
    found = ratio.clipped_geometric(logprobs, old, response, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), 0.4, 0.4)
    assert found.tolist() == [near([exp(-0.3)] * 2), near([exp(0.3)] * 2)]


RATIOS = torch.tensor([[9.0, 2.0, 2.0], [9.0, 0.5, 1.0]])
RESPONSE = torch.tensor([[False, True, True], [False, True, True]])


def test_corrections_of_whole_responses_read_their_tokens_alone():
    """The responses' ratios are 4 and ½; the 9 stands on the prompt."""
    assert ratio.sequence_truncated(RATIOS, RESPONSE, cap=3.0)[:, 1].tolist() == near([3.0, 0.5])
    assert ratio.sequence_masked(RATIOS, RESPONSE, cap=3.0)[:, 1].tolist() == near([0.0, 0.5])
    assert ratio.sequence_masked(RATIOS, RESPONSE, cap=5.0, floor=0.6)[:, 1].tolist() == near([4.0, 0.0])
    # The geometric means are 2 and √½ = 0.71.
    assert ratio.geometric_masked(RATIOS, RESPONSE, cap=1.5, floor=0.7)[:, 1].tolist() == [0.0, 1.0]
    # k3 is 2 − 1 − log 2 = 0.307 and ½ − 1 + log 2 = 0.193.
    assert ratio.trust_region_masked(RATIOS, RESPONSE, delta=0.25)[:, 1].tolist() == [0.0, 1.0]
    # The mean of −log of the ratios is −log 2 and ½ log 2 = 0.347.
    for delta, expected in ((0.3, [1.0, 0.0]), (0.4, [1.0, 1.0])):
        found = ratio.negative_rows_masked(RATIOS, RESPONSE, -torch.ones(2, 3), delta)
        assert found[:, 1].tolist() == expected
    assert ratio.negative_rows_masked(RATIOS, RESPONSE, torch.ones(2, 3), 0.3).min() == 1.0


@pytest.mark.parametrize(
    "rule",
    [
        lambda r, m: ratio.sequence_truncated(r, m, cap=3.0),
        lambda r, m: ratio.sequence_masked(r, m, cap=3.0),
        lambda r, m: ratio.geometric_masked(r, m, cap=2.5, floor=0.4),
        lambda r, m: ratio.trust_region_masked(r, m, delta=1.0),
        lambda r, m: ratio.negative_rows_masked(r, m, -torch.ones_like(r), delta=1.0),
    ],
)
def test_a_correction_of_a_response_is_that_of_the_response_alone(rule: Any):
    torch.testing.assert_close(rule(RATIOS, RESPONSE)[1:], rule(RATIOS[1:], RESPONSE[1:]))
    assert rule(RATIOS.log().mul(0).exp(), RESPONSE).tolist() == [[1.0] * 3] * 2


def test_a_correction_of_a_response_with_an_unknown_token_is_unknown():
    unknown = torch.tensor([[1.0, float("nan"), 1.0]])
    for rule in (ratio.sequence_truncated, ratio.sequence_masked, partial(ratio.geometric_masked, floor=0.5)):
        assert rule(unknown, RESPONSE[:1], cap=2.0).isnan().all()


def test_the_drift_is_the_kl_of_the_policy_that_sampled():
    """π_old = (½, ½), π = (¾, ¼): Σ π_old · drift(log π/π_old) = KL(π_old ‖ π) = ½ log 4/3."""
    delta = torch.tensor([1.5, 0.5]).log()
    assert (0.5 * kl.drift(delta, cap=0.5)).sum().item() == near(0.5 * log(4 / 3))


def test_the_slope_of_the_drift_is_the_ratio_less_one_up_to_a_cap():
    """Ratios of ½, 1, 1.1, 3 and e^100 with a cap of 0.2; the value goes on along the tangent at 1.2."""
    delta = torch.tensor([log(0.5), 0.0, log(1.1), log(3.0), 100.0], requires_grad=True)
    found = kl.drift(delta, cap=0.2)
    assert slope(found, delta)[0] == near([-0.5, 0.0, 0.1, 0.2, 0.2])
    assert found[3].item() == near(0.2 - log(1.2) + 0.2 * log(3 / 1.2))
    assert found[4].item() == pytest.approx(0.2 - log(1.2) + 0.2 * (100 - log(1.2)))


# Preferences, at scores of log 3 and 0, so that m = log 3 and σ(m) = ¾.

CHOSEN, REJECTED = torch.tensor([log(3.0)]), torch.tensor([0.0])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (preference.sigmoid(CHOSEN, REJECTED, 1.0), -log(0.75)),
        (preference.sigmoid(CHOSEN, REJECTED, 1.0, 0.1), -0.9 * log(0.75) - 0.1 * log(0.25)),
        (preference.robust(CHOSEN, REJECTED, 1.0, 0.1), (-0.9 * log(0.75) + 0.1 * log(0.25)) / 0.8),
        (preference.hinge(CHOSEN, REJECTED, 0.5), 1 - 0.5 * log(3)),
        (preference.hinge(CHOSEN, REJECTED, 2.0), 0.0),
        (preference.ipo(CHOSEN, REJECTED, 0.5, torch.tensor([2]), torch.tensor([4])), (log(3) / 2 - 1) ** 2),
        (preference.exo(CHOSEN, REJECTED, 1.0, 0.1), 0.75 * log(0.75 / 0.9) + 0.25 * log(0.25 / 0.1)),
        (preference.sppo(CHOSEN, REJECTED, 1.0), (log(3) - 0.5) ** 2 + 0.25),
    ],
)
def test_losses_of_a_pair(loss: Tensor, expected: float):
    assert loss.item() == near(expected)


def test_a_loss_that_is_robust_to_wrong_labels_has_that_of_the_right_ones_as_its_mean():
    """With chance s the labels of a pair are exchanged: (1 − s)·robust(a, b) + s·robust(b, a) = −log σ(β·m)."""
    s = 0.2
    found = (1 - s) * preference.robust(CHOSEN, REJECTED, 1.0, s) + s * preference.robust(REJECTED, CHOSEN, 1.0, s)
    assert found.item() == near(-log(0.75))


@pytest.mark.parametrize(
    "score", [preference.forward_kl, preference.jensen_shannon, partial(preference.alpha, order=0.5)]
)
def test_scores_of_responses_that_have_gone_far_are_numbers(score: Any):
    """Log-ratios of ±200, those of a long response: e^200 is more than float32 holds."""
    chosen = torch.tensor([-200.0, 200.0, -200.0], requires_grad=True)
    rejected = torch.tensor([200.0, -200.0, -200.0], requires_grad=True)
    losses = preference.sigmoid(score(chosen), score(rejected), 0.1)
    found = torch.tensor(slope(losses, chosen, rejected))
    assert losses.isfinite().all()
    assert found.isfinite().all()
    assert (found[0] <= 0).all()
    assert (found[1] >= 0).all()


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (preference.reverse_kl, 1.0),
        (preference.forward_kl, 1 - 1 / e),
        (preference.jensen_shannon, log(2 * e / (e + 1))),
        (lambda x: preference.alpha(x, order=2.0), e - 1),
        (lambda x: preference.alpha(x, order=1 + 1e-4), 1.00005),
    ],
)
def test_scores_of_divergences_at_a_log_ratio_of_one_and_of_zero(score: Any, expected: float):
    assert score(torch.ones(1)).item() == pytest.approx(expected, abs=2e-4)
    assert score(torch.zeros(1)).item() == near(0.0)
    x = torch.zeros(1, requires_grad=True)
    assert slope(score(x), x)[0] == near([0.5 if score is preference.jensen_shannon else 1.0])
