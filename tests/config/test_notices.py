"""Each notice at start-up is a claim about gradients: it is made exactly where the gradients say so.

Expectations are sums over all responses of a policy with two letters and an end, at most three tokens long.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fakes import HandMade, spied
from winnow.algorithm import ActorCritic, PolicyGradient
from winnow.config import biased_settings, clip_bounds, equal_settings, notices
from winnow.config.compose import composed
from winnow.config.instantiate import build_algorithm
from winnow.config.linting import setup_of
from winnow.config.notices import NOTICES, Setup
from winnow.experience.batching import collate
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import PolicyGradientExperience, corrected_advantages
from winnow.experience.scoring import Scored
from winnow.objectives import KL, Aggregate, PolicyObjective
from winnow.ops import advantage, aggregate, clip, kl, ratio, select
from winnow.types import Row

PROVEN: set[str] = set()


def proves(*names: str) -> Callable:
    """Marks the test that proves the notices of these names."""
    PROVEN.update(names)
    return lambda test: test


def setup(
    updates: int = 1, lowest_reward: float = -1.0, rounds_coarsely: bool = False, critic: bool = False, **changed
) -> Setup:
    """Reinforce without ratio and clip, with the `changed` settings; PPO with `critic`."""
    settings = {
        "select": select.all_samples,
        "advantage": advantage.gae if critic else advantage.reward,
        "ratio": ratio.log_probability,
        "clip": clip.unclipped,
        "aggregate": aggregate.sequence_sum,
        "kl": None,
        "correction": ratio.uncorrected,
        "entropy": 0.0,
        "rejected": "drop",
    } | changed
    more = {"whiten": True, "value_clip": 0.5, "critic_lr_ratio": 10.0} if critic else {}
    kind = ActorCritic if critic else PolicyGradient
    return Setup(kind(**settings, **more), updates, lowest_reward, rounds_coarsely)


def made(notice: Callable[[Setup], str | None], about: Setup) -> bool:
    return notice(about) is not None


END, LONGEST = 2, 3
PREFIXES = [letters for length in range(LONGEST) for letters in itertools.product((0, 1), repeat=length)]
RESPONSES = [
    *((*prefix, END) for prefix in PREFIXES),
    *((*prefix, letter) for prefix in PREFIXES if len(prefix) == LONGEST - 1 for letter in (0, 1)),
]
"""All that end, and those that are cut off at three tokens."""


class Table:
    """A policy: for every prefix the logits of letter 0, letter 1 and the end."""

    def __init__(self, seed: int, scale: float = 0.7) -> None:
        drawn = torch.randn(len(PREFIXES), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self.logits = (scale * drawn).requires_grad_()

    def logprobs(self, response: Sequence[int]) -> Tensor:
        """The log-probability of each token of a response."""
        table = self.logits.log_softmax(1)
        return torch.stack([table[PREFIXES.index(tuple(response[:t])), token] for t, token in enumerate(response)])

    def gradient(self, value: Tensor) -> Tensor:
        return torch.autograd.grad(value, self.logits, retain_graph=True)[0]


POLICY, REFERENCE, OTHER = Table(1), Table(2), Table(3)


def test_the_probabilities_of_all_responses_sum_to_one():
    assert sum(POLICY.logprobs(a).sum().exp().item() for a in RESPONSES) == pytest.approx(1, abs=1e-12)


def loss(
    objective: PolicyObjective,
    rule: Aggregate,
    responses: Sequence[Sequence[int]],
    advantages: Sequence[Sequence[float]],
    reference: Table = REFERENCE,
) -> Tensor:
    """The loss of one optimiser batch of `responses` at the policy that drew them."""
    prompt = (9,)
    rows = [
        Row(
            prompt + tuple(response),
            1,
            advantage=torch.tensor([0.0, *advantage], dtype=torch.float64),
            ref_logprobs=torch.cat([torch.zeros(1, dtype=torch.float64), reference.logprobs(response).detach()]),
        )
        for response, advantage in zip(responses, advantages, strict=True)
    ]
    weight, counts = rule(torch.tensor([len(response) for response in responses]))
    batch = collate(rows, weight, float(counts.sum()), num_micro_batches=1).terms
    width = batch.response.shape[1]
    logprobs = torch.stack([torch.nn.functional.pad(POLICY.logprobs(a), (1, width - 1 - len(a))) for a in responses])
    return objective(logprobs, None, batch).value


def expected_gradient(objective: PolicyObjective, rule: Aggregate, rows: int, reference: Table = REFERENCE) -> Tensor:
    """Mean gradient of a batch of `rows` responses drawn independently, all of advantage zero."""
    total = torch.zeros_like(POLICY.logits)
    for batch in itertools.product(RESPONSES, repeat=rows):
        chance = torch.stack([POLICY.logprobs(a).sum() for a in batch]).sum().exp().detach()
        value = loss(objective, rule, batch, [[0.0] * len(a) for a in batch], reference)
        total += chance * POLICY.gradient(value)
    return total


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-12)


SAMPLED = [(0, 1, 1), (END,), (1, END)]
EQUAL = [[0.5] * 3, [-1.0], [2.0] * 2]
"""One advantage per response, as without a critic."""
UNEQUAL = [[0.5, -1.0, 2.0], [-1.0], [1.0, -3.0]]
CLIPS = [
    clip.unclipped,
    partial(clip.ppo, low=0.2, high=0.2),
    partial(clip.ratio_min, low=1.0, high=0.28),
    partial(clip.dual, low=0.2, high=0.2, c=3.0),
    partial(clip.dual, low=0.2, high=0.2, c=1.0),
    partial(clip.cispo, low=1.0, high=0.2),
    partial(clip.sapo, positive=1.0, negative=1.05),
    clip.topr,
    partial(clip.vespo, k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0),
    partial(clip.cpgd, low=0.2, high=0.2),
    partial(clip.dppo, low=0.2, high=0.2, cap=20.0),
    partial(clip.dppo, low=0.2, high=0.2, cap=0.5),
]


def policy_gradient(ratio_rule, clipping, advantages: Sequence[Sequence[float]]) -> Tensor:
    objective = PolicyObjective(ratio_rule, clipping, None, 0.0)
    return POLICY.gradient(loss(objective, aggregate.token_mean, SAMPLED, advantages))


def test_a_clip_that_measures_from_the_sampler_acts_in_the_first_update_where_that_is_not_the_policy():
    """π = π_old = 0.6 and μ = 0.3, so that DPPO's mask of 0.2 takes the gradient of a token with A > 0."""
    rule = partial(clip.dppo, low=0.2, high=0.2, cap=20.0)
    x, mu = torch.tensor([[0.6]]).log().requires_grad_(), torch.tensor([[0.3]]).log()
    for sampled, slope in ((x.detach(), 1.0), (mu, 0.0)):
        value = rule(torch.ones(1, 1), torch.ones(1, 1), logprobs=x, sampled=sampled)
        assert float(torch.autograd.grad(value.sum(), x)[0]) == slope
        about = replace(setup(ratio=ratio.token, clip=rule), samples_exactly=slope == 1)
        assert made(notices.ratio_and_clip_change_nothing, about) == (slope == 1)


@proves("ratio_and_clip_change_nothing", "ratio_weighs_by_length", "ratio_averages_advantages")
@pytest.mark.parametrize("clipping", CLIPS)
@pytest.mark.parametrize("rule", [ratio.token, ratio.sequence, ratio.sequence_product])
@pytest.mark.parametrize("critic", [False, True])
def test_with_one_update_ratio_and_clip_change_what_the_notices_say(critic: bool, rule, clipping):
    about = setup(critic=critic, ratio=rule, clip=clipping)
    advantages = UNEQUAL if critic else EQUAL
    found = policy_gradient(rule, clipping, advantages)

    def without_ratio(of: Sequence[Sequence[float]]) -> bool:
        return same(found, policy_gradient(ratio.log_probability, clip.unclipped, of))

    assert made(notices.ratio_and_clip_change_nothing, about) == without_ratio(advantages)
    sums = [[sum(a)] * len(a) for a in advantages]
    assert made(notices.ratio_weighs_by_length, about) == (without_ratio(sums) and not without_ratio(advantages))
    means = [[sum(a) / len(a)] * len(a) for a in advantages]
    assert made(notices.ratio_averages_advantages, about) == (without_ratio(means) and not without_ratio(advantages))


@proves("ratio_and_clip_change_nothing", "ratio_weighs_by_length", "ratio_averages_advantages")
def test_nothing_is_claimed_of_ratios_that_may_differ_from_one():
    """With a second update the policy has moved. Two forwards in bfloat16 differ; one forward is equal to itself."""
    claims = (
        notices.ratio_and_clip_change_nothing,
        notices.ratio_weighs_by_length,
        notices.ratio_averages_advantages,
    )

    def claimed(**changed) -> bool:
        return any(made(notice, setup(**changed)) for notice in claims)

    corrected = {"correction": partial(ratio.truncated, cap=2.0)}
    for rule in (ratio.token, ratio.sequence, ratio.sequence_product):
        assert claimed(ratio=rule)
        assert not claimed(ratio=rule, updates=2)
        assert claimed(ratio=rule, rounds_coarsely=True)
        assert not claimed(ratio=rule, rounds_coarsely=True, critic=True)
        assert not claimed(ratio=rule, rounds_coarsely=True, **corrected)
    assert not claimed(ratio=ratio.log_probability)


def test_nothing_is_claimed_of_rules_that_are_not_known():
    def cubed(ratio: Tensor, advantage: Tensor) -> Tensor:
        return ratio.pow(3) * advantage

    def halved(logprobs: Tensor, old: Tensor, response: Tensor) -> Tensor:
        return ((logprobs - old) / 2).exp()

    assert all(notice.finding(setup(ratio=ratio.token, clip=cubed)) is None for notice in NOTICES)
    assert all(notice.finding(setup(ratio=halved)) is None for notice in NOTICES)


def k1(**changed) -> KL:
    return KL(kl.k1, coef=0.3, **changed)


class Case(NamedTuple):
    """An aggregation, and the mean of a batch whose gradient k1 in the loss then has."""

    rule: Aggregate
    mean: Callable[[Sequence[int]], float]


AGGREGATES = {
    "sequence_sum": Case(aggregate.sequence_sum, lambda lengths: 0.0),
    "constant_length": Case(partial(aggregate.constant_length, length=7), lambda lengths: 0.0),
    "sequence_mean": Case(aggregate.sequence_mean, lambda lengths: sum(1 / n for n in lengths) / len(lengths)),
    "token_mean": Case(aggregate.token_mean, lambda lengths: 1 / sum(lengths)),
}


@proves("k1_has_no_mean_gradient", "k1_favours_length")
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("case", AGGREGATES.values(), ids=AGGREGATES)
def test_k1_in_the_loss_has_the_mean_gradient_that_its_notice_says(case: Case, rows: int):
    objective = PolicyObjective(ratio.log_probability, clip.unclipped, k1(), 0.0)
    found = expected_gradient(objective, case.rule, rows)
    assert same(found, expected_gradient(objective, case.rule, rows, reference=OTHER))
    mean, length = torch.zeros(2, dtype=torch.float64)
    for batch in itertools.product(RESPONSES, repeat=rows):
        chance = torch.stack([POLICY.logprobs(a).sum() for a in batch]).sum().exp()
        lengths = [len(a) for a in batch]
        mean, length = mean + chance * case.mean(lengths), length + chance * sum(lengths)
    expected = POLICY.gradient(mean) if mean.requires_grad else torch.zeros_like(found)
    assert same(found, 0.3 * expected)
    about = setup(aggregate=case.rule, kl=k1())
    assert made(notices.k1_has_no_mean_gradient, about) == bool(found.abs().max() < 1e-12)
    # A step against the gradient makes answers longer where their product is negative.
    longer = (found * POLICY.gradient(length)).sum().item()
    assert made(notices.k1_favours_length, about) == (longer < -1e-3)


@proves("k1_lowers_what_is_kept", "k1_acts_within_its_clamp")
def test_k1_in_the_loss_lowers_kept_samples_and_with_a_clamp_those_near_the_reference():
    """The estimates of the three tokens are −1, 0.5 and 3."""
    delta = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)

    def slope(term: KL, reference: Tensor) -> list[float]:
        logprobs = (reference + delta).requires_grad_()
        return torch.autograd.grad(term.coef * term(logprobs, reference).sum(), logprobs)[0].tolist()

    near, far = torch.zeros(3, dtype=torch.float64), torch.full((3,), -2.0, dtype=torch.float64)
    assert slope(k1(), near) == slope(k1(), far) == [0.3] * 3
    assert slope(k1(clamp=2.0), near) == [0.3, 0.3, 0.0]

    best = {"select": select.best, "advantage": advantage.one}
    assert made(notices.k1_lowers_what_is_kept, setup(kl=k1(), **best))
    assert not made(notices.k1_lowers_what_is_kept, setup(kl=k1(), rejected="zero", **best))
    assert made(notices.k1_has_no_mean_gradient, setup(kl=k1(), rejected="zero", **best))
    assert made(notices.k1_acts_within_its_clamp, setup(kl=k1(clamp=2.0)))
    for settings in ({"kl": k1(clamp=2.0)}, {"kl": k1(place="reward")}, {"kl": KL(kl.k3, coef=0.3)}):
        about = setup(**settings)
        assert not made(notices.k1_has_no_mean_gradient, about)
        assert not made(notices.k1_lowers_what_is_kept, about)


@proves("kl_to_the_previous_policy_changes_nothing")
@pytest.mark.parametrize("rule", [ratio.log_probability, ratio.token])
@pytest.mark.parametrize("estimator", [kl.k1, kl.k2, kl.k3, partial(kl.drift, cap=0.2)])
def test_kl_to_the_policy_itself_has_no_gradient_where_the_notice_says_so(estimator, rule):
    term = KL(estimator, coef=0.3, reference="previous")
    objective = PolicyObjective(rule, clip.unclipped, term, 0.0)
    nothing = [[0.0] * len(a) for a in SAMPLED]
    found = POLICY.gradient(loss(objective, aggregate.sequence_mean, SAMPLED, nothing, reference=POLICY))
    about = setup(ratio=rule, kl=term)
    assert made(notices.kl_to_the_previous_policy_changes_nothing, about) == bool(found.abs().max() < 1e-12)
    for changed in ({"updates": 2}, {"rounds_coarsely": True}):
        assert not made(notices.kl_to_the_previous_policy_changes_nothing, setup(ratio=rule, kl=term, **changed))


def reverse_kl(policy: Table, reference: Table) -> Tensor:
    """KL(π‖π_ref) of whole responses."""
    logs = [(policy.logprobs(a).sum(), reference.logprobs(a).sum().detach()) for a in RESPONSES]
    return torch.stack([ours.exp() * (ours - theirs) for ours, theirs in logs]).sum()


def forward_kl_by_token(policy: Table, reference: Table) -> Tensor:
    """KL(π_ref‖π) of each token's distribution, summed over prefixes as often as the policy reaches them."""
    ours, theirs = policy.logits.log_softmax(1), reference.logits.detach().log_softmax(1)
    each = (theirs.exp() * (theirs - ours)).sum(1)
    reached = torch.stack([policy.logprobs(prefix).sum().exp() if prefix else torch.tensor(1.0) for prefix in PREFIXES])
    return (reached.detach() * each).sum()


def reward_gradient(estimator, policy: Table, reference: Table) -> Tensor:
    """E[∇ log π(a) · Σ_t estimate], the mean gradient of a penalty in the reward with coefficient 1."""
    total = torch.zeros_like(policy.logits)
    for a in RESPONSES:
        logprobs = policy.logprobs(a)
        penalty = estimator((logprobs - reference.logprobs(a)).detach()).sum()
        total += logprobs.sum().exp().detach() * penalty * policy.gradient(logprobs.sum())
    return total


@proves("kl_in_the_reward_has_another_gradient")
def test_in_the_reward_only_k1_has_the_gradient_of_the_kl():
    true = POLICY.gradient(reverse_kl(POLICY, REFERENCE))
    forward = POLICY.gradient(forward_kl_by_token(POLICY, REFERENCE))
    assert same(reward_gradient(kl.k1, POLICY, REFERENCE), true)
    assert same(reward_gradient(kl.k3, POLICY, REFERENCE), true - forward)
    for estimator in (kl.k1, kl.k2, kl.k3):
        found = reward_gradient(estimator, POLICY, REFERENCE)
        about = setup(kl=KL(estimator, coef=0.3, place="reward"))
        assert made(notices.kl_in_the_reward_has_another_gradient, about) == (not same(found, true))
        assert not made(notices.kl_in_the_reward_has_another_gradient, setup(kl=KL(estimator, coef=0.3)))
        clamped = KL(estimator, coef=0.3, place="reward", clamp=0.001)  # whose gradient is another one
        assert not made(notices.kl_in_the_reward_has_another_gradient, setup(kl=clamped))


@pytest.mark.parametrize("estimator", [kl.k2, kl.k3])
def test_near_the_reference_k2_and_k3_in_the_reward_vanish_faster_than_the_kl(estimator):
    """The nearer the reference by a factor of 10, the smaller the gradient by nearly 100, the KL's by nearly 10."""
    sizes = []
    for distance in (0.1, 0.01):
        near = Table(1)
        near.logits = (POLICY.logits + distance * (REFERENCE.logits - POLICY.logits)).detach().requires_grad_()
        found, true = reward_gradient(estimator, POLICY, near), POLICY.gradient(reverse_kl(POLICY, near))
        sizes.append((float(found.norm()), float(true.norm())))
    (far_found, far_true), (near_found, near_true) = sizes
    assert far_found / near_found > 70
    assert 8 < far_true / near_true < 12


def test_k3_in_the_reward_points_elsewhere_and_is_shorter_than_the_kl():
    found, true = reward_gradient(kl.k3, POLICY, REFERENCE), POLICY.gradient(reverse_kl(POLICY, REFERENCE))
    assert float(cosine_similarity(found.flatten(), true.flatten(), dim=0)) < 0.99
    assert float(found.norm() / true.norm()) < 0.9


@proves("rejected_changes_nothing")
@pytest.mark.parametrize("rule", [select.all_samples, select.best, select.mixed_prompts])
def test_rejected_changes_nothing_where_its_notice_says_so(rule):
    found = []
    for rejected in ("drop", "zero"):
        algorithm = setup(select=rule, rejected=rejected).algorithm
        assert isinstance(algorithm, PolicyGradient)
        experience = PolicyGradientExperience(HandMade(), spied().scorer, algorithm, 1)(0, Clock())
        found.append([(row.token_ids, row.advantage.tolist()) for row in experience.items])  # pyright: ignore
    assert made(notices.rejected_changes_nothing, setup(select=rule, rejected="zero")) == (found[0] == found[1])
    assert not made(notices.rejected_changes_nothing, setup(select=rule))


@proves("no_advantage_is_negative")
@pytest.mark.parametrize("lowest", [-1.0, -0.5, 0.0, 0.25])
@pytest.mark.parametrize("rule", [advantage.reward, advantage.group])
def test_no_advantage_is_negative_where_the_notice_says_so(rule, lowest: float):
    rewards = torch.tensor([[1.0, lowest], [lowest, lowest], [1.0, 1.0]])
    about = setup(lowest_reward=lowest, advantage=rule)
    assert made(notices.no_advantage_is_negative, about) == bool((rule(rewards) >= 0).all())
    words = ["algo=reinforce", "reward.correct=-1", "reward.wrong=0", "reward.no_answer=0"]
    cfg = composed("train", words, ("algo",))
    assert setup_of(cfg, build_algorithm(cfg)).lowest_reward == -1
    shaped = setup(lowest_reward=lowest, advantage=rule, kl=k1(place="reward"))
    assert (rule(rewards, torch.full((3, 2), 2.0) * torch.arange(2)) < 0).any()
    assert not made(notices.no_advantage_is_negative, shaped)


@proves("earlier_samples_are_not_corrected")
def test_samples_of_an_earlier_policy_count_as_its_own_without_a_correction():
    """Two tokens that the sampler thought half as likely as the present policy does."""
    sampled, present = torch.tensor([0.0, -2.0, -2.0]), torch.tensor([0.0, -2.0, -2.0]) + math.log(2)
    scored = Scored([Row((1, 2, 2), 1)], [sampled], {0: present}, {}, {}, {})
    drawn = {0: torch.tensor([0.0, 1.0, 1.0])}
    for correction, weight in ((ratio.uncorrected, 1.0), (partial(ratio.truncated, cap=1.5), 1.5)):
        about = replace(setup(correction=correction), staleness=1)
        found, _ = corrected_advantages(about.algorithm, drawn, scored)
        assert found[0].tolist() == pytest.approx([0.0, weight, weight])
        assert made(notices.earlier_samples_are_not_corrected, about) == (weight == 1.0)
    masked = partial(clip.stale_negatives_left_out, low=0.2, high=0.2, delta=0.1)
    about = replace(setup(ratio=ratio.token, clip=masked), staleness=1)
    assert not made(notices.earlier_samples_are_not_corrected, about)
    assert not made(notices.earlier_samples_are_not_corrected, setup())


def test_every_notice_is_proven():
    in_test_linter = (*equal_settings.RULES, *biased_settings.RULES, *clip_bounds.RULES)
    elsewhere = {rule.rule.__name__ for rule in in_test_linter}
    assert {notice.rule.__name__ for notice in NOTICES} == (PROVEN | elsewhere)
