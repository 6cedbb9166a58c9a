"""Each rule of the linter is a claim about losses and gradients, which is computed here.

Whole optimiser batches are made of samples, rewards and verdicts as training makes them, and their losses are compared:
equal to 1e-12, or by the stated factor.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from config.test_notices import (
    POLICY,
    PREFIXES,
    PROVEN,
    REFERENCE,
    RESPONSES,
    Table,
    expected_gradient,
    made,
    proves,
    same,
)
from config.test_notices import loss as loss_of
from config.test_notices import setup as plain_setup
from running import SINCE
from winnow.algorithm import PolicyGradient
from winnow.config import biased_settings, clip_bounds, equal_settings, notices
from winnow.config.command_line import read_command_line
from winnow.config.compose import composed
from winnow.config.equal_runs import essence
from winnow.config.explanation import difference, explain
from winnow.config.instantiate import build_algorithm
from winnow.config.linting import Kind, Setup, Verdicts
from winnow.config.notices import NOTICES
from winnow.config.ranges import check_ranges
from winnow.errors import ConfigError
from winnow.launch import programs
from winnow.objectives import KL, PolicyObjective
from winnow.ops import advantage, aggregate, clip, kl, ratio, select
from winnow.ops.tokens import low_covariance, top_entropy
from winnow.rule import given

ZERO_ONE, PLUS_MINUS = Verdicts(1, 0, 0), Verdicts(1, -1, -1)
PPO = partial(clip.ppo, low=0.2, high=0.2)
CORRECT = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()
DRAWN = [[RESPONSES[(3 * p + g) % len(RESPONSES)] for g in range(4)] for p in range(4)]


def setup(verdicts: Verdicts | None = ZERO_ONE, samples: int = 4, updates: int = 1, **changed) -> Setup:
    lowest = -math.inf if verdicts is None else min(verdicts.wrong, verdicts.no_answer)
    about = plain_setup(updates=updates, lowest_reward=lowest, **changed)
    return replace(about, samples=samples, verdicts=verdicts)


def batch_loss(about: Setup, rewards: Tensor | None = None) -> Tensor:
    """The loss of one optimiser batch of all samples that the algorithm of a setup keeps."""
    algorithm, verdicts = about.algorithm, about.verdicts
    assert isinstance(algorithm, PolicyGradient)
    if rewards is None:
        assert verdicts is not None
        rewards = torch.where(CORRECT, verdicts.correct, verdicts.wrong).double()
    kept = algorithm.select(rewards, CORRECT)
    advantages = torch.where(kept, algorithm.advantage(rewards), 0.0)
    rows = (kept | (algorithm.rejected == "zero")).nonzero().tolist()
    responses = [DRAWN[p][g] for p, g in rows]
    by_token = [[float(advantages[p, g])] * len(DRAWN[p][g]) for p, g in rows]
    return loss_of(algorithm.objective, algorithm.aggregate, responses, by_token)


def equal_losses(a: Tensor, b: Tensor) -> bool:
    """Whether two losses are equal, in value and in gradient."""
    return same(a, b) and same(POLICY.gradient(a), POLICY.gradient(b))


def test_negative_samples_with_a_reward_of_zero_are_refused_and_called_equal_to_nothing():
    wrong = setup(ZERO_ONE, select=select.negative, advantage=advantage.reward, rejected="zero")
    assert not batch_loss(wrong).any()
    assert not made(equal_settings.rewards_of_zero_select, wrong)
    for words in (["algo=nsr"], ["algo=w_reinforce", "algo/select=negative"]):
        with pytest.raises(ConfigError, match=r"algo/select=negative: .* type reward=plus_minus_one"):
            check_ranges(composed("train", [*words, "reward=zero_one"], ("algo",)))
        check_ranges(composed("train", words, ("algo",)))


AGGREGATES = [aggregate.sequence_mean, aggregate.token_mean, aggregate.sequence_sum]


@proves("rewards_of_zero_select")
@pytest.mark.parametrize("rule", AGGREGATES)
@pytest.mark.parametrize("chosen", [select.all_samples, select.mixed_prompts, select.not_all_wrong])
@pytest.mark.parametrize("correct", [1.0, 2.0])
def test_rewards_of_zero_leave_raftpp_and_a_share(rule, chosen, correct: float):
    def both(rewards: Tensor, right: Tensor) -> Tensor:
        return chosen(rewards, right) & right

    settings = {"ratio": ratio.token, "clip": PPO, "aggregate": rule}
    verdicts = Verdicts(correct, 0, 0)
    for rejected in ("zero", "drop"):
        about = setup(verdicts, select=chosen, rejected=rejected, **settings)
        assert made(equal_settings.rewards_of_zero_select, about)
        raftpp = setup(verdicts, select=both, advantage=advantage.one, rejected=rejected, **settings)
        kept = chosen(CORRECT.double(), CORRECT)
        lengths = torch.tensor([[len(a) for a in group] for group in DRAWN])
        parts = [float(rule(lengths[mask])[1].sum()) for mask in (kept & CORRECT, kept)]
        share = 1.0 if rejected == "zero" else parts[0] / parts[1]
        assert equal_losses(batch_loss(about), batch_loss(raftpp) * correct * share)
    assert not made(equal_settings.rewards_of_zero_select, setup(PLUS_MINUS))
    assert not made(equal_settings.rewards_of_zero_select, setup(Verdicts(1, 0, -0.5)))
    assert not made(equal_settings.rewards_of_zero_select, setup(None))
    assert not made(equal_settings.rewards_of_zero_select, setup(entropy=0.1))
    assert not made(equal_settings.rewards_of_zero_select, setup(kl=KL(kl.k2, 0.1)))
    assert not made(equal_settings.rewards_of_zero_select, setup(aggregate=aggregate.prompt_mean))
    chosen_tokens = partial(top_entropy, share=0.2)
    assert not made(equal_settings.rewards_of_zero_select, setup(tokens=chosen_tokens))


@proves("centring_rejects_uniform_prompts")
@pytest.mark.parametrize("centre", ["mean", "leave_one_out"])
@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("chosen", list(equal_settings.PROMPTS_WITH))
@pytest.mark.parametrize("verdicts", [ZERO_ONE, PLUS_MINUS])
def test_a_centred_advantage_rejects_uniform_prompts_by_itself(centre, scale, chosen, verdicts):
    of = partial(advantage.group, centre=centre, scale=scale)
    every = setup(verdicts, advantage=of)
    for rejected in ("zero", "drop"):
        about = setup(verdicts, advantage=of, select=chosen, rejected=rejected)
        assert made(equal_settings.centring_rejects_uniform_prompts, about)
        kept = chosen(CORRECT.double(), CORRECT)
        share = 1.0 if rejected == "zero" else kept.numel() / int(kept.sum())
        assert equal_losses(batch_loss(about), batch_loss(every) * share)
    assert not made(equal_settings.centring_rejects_uniform_prompts, setup(verdicts, advantage=of))
    for other in (Verdicts(1, -0.5, -1), None):
        assert not made(equal_settings.centring_rejects_uniform_prompts, setup(other, advantage=of, select=chosen))
    uncentred = partial(advantage.group, centre="none", scale=scale)
    assert not made(equal_settings.centring_rejects_uniform_prompts, setup(advantage=uncentred, select=chosen))


@proves("leaving_one_out_is_a_factor")
@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("samples", [2, 4, 7])
def test_leaving_one_out_multiplies_by_g_over_g_minus_1(scale: Literal["none", "std"], samples: int):
    rewards = torch.randn(5, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
    others = partial(advantage.group, centre="leave_one_out", scale=scale)
    found = others(rewards) / advantage.group(rewards, scale=scale)
    assert same(found, torch.full_like(found, samples / (samples - 1)))
    said = equal_settings.leaving_one_out_is_a_factor(setup(samples=samples, advantage=others))
    assert said is not None
    assert f"{samples}/{samples - 1} times" in said
    assert not made(equal_settings.leaving_one_out_is_a_factor, setup(advantage=advantage.group))


@proves("two_samples_have_one_size")
def test_two_samples_have_advantages_of_one_size():
    """Up to ε = 1e-6 in the divisor."""
    rewards = torch.tensor([[1.0, 0.0], [-1.0, 3.0], [0.2, 0.3]], dtype=torch.float64)
    of = partial(advantage.group, eps=0.0)
    assert same(of(rewards).abs(), torch.full((3, 2), 0.5**0.5, dtype=torch.float64))
    assert made(equal_settings.two_samples_have_one_size, setup(samples=2, advantage=advantage.group))
    assert not made(equal_settings.two_samples_have_one_size, setup(samples=3, advantage=advantage.group))
    plain = partial(advantage.group, scale="none")
    assert not made(equal_settings.two_samples_have_one_size, setup(samples=2, advantage=plain))
    large = partial(advantage.group, eps=1.0)  # ±1 / (√2 + 1) of rewards of ±1
    assert large(torch.tensor([[1.0, -1.0]]).double()).flatten().tolist() == pytest.approx([2**0.5 - 1, 1 - 2**0.5])
    for verdicts in (PLUS_MINUS, None):
        assert not made(equal_settings.two_samples_have_one_size, setup(verdicts, samples=2, advantage=large))
    near = Verdicts(1.0, 1.0 - 1e-6, 0.0)
    assert not made(equal_settings.two_samples_have_one_size, setup(near, samples=2, advantage=advantage.group))


RATIOS = torch.linspace(0.3, 2.0, 35, dtype=torch.float64)


def surrogate(rule, advantages: Tensor) -> tuple[Tensor, Tensor]:
    """A clipping rule on ratios on both sides of its bounds: values and slopes."""
    ratios = RATIOS.clone().requires_grad_()
    value = rule(ratios[None], advantages[None])
    return value, torch.autograd.grad(value.sum(), ratios)[0]


def same_surrogates(a, b, advantages: Tensor) -> bool:
    return all(same(x, y) for x, y in zip(surrogate(a, advantages), surrogate(b, advantages), strict=True))


CLIPS = {clip.ppo: {}, clip.ratio_min: {}, clip.dual: {"c": 3.0}}


@proves("lower_bound_never_binds", "the_lower_bound_of_ratio_min_never_binds", "other_clips_are_ppo")
@pytest.mark.parametrize("rule", list(CLIPS))
def test_without_negative_advantages_the_lower_bound_and_the_form_of_clipping_do_not_matter(rule):
    def of(low: float, **more: float):
        return partial(rule, low=low, high=0.28, **{**CLIPS[rule], **more})

    never = torch.cat([torch.zeros(5), torch.linspace(0.1, 3, 30)]).double()
    assert same_surrogates(of(0.1), of(0.6), never)
    assert same_surrogates(of(0.2), partial(clip.ppo, low=0.2, high=0.28), never)
    if rule is clip.dual:
        assert same_surrogates(of(0.2), of(0.2, c=1.5), never)
    assert same_surrogates(of(0.1), of(0.6), -never) == (rule is clip.ratio_min)
    claims = (equal_settings.lower_bound_never_binds, equal_settings.other_clips_are_ppo)
    always = equal_settings.the_lower_bound_of_ratio_min_never_binds
    about = {"ratio": ratio.token, "clip": of(0.2)}
    for positive in (setup(**about), setup(PLUS_MINUS, advantage=advantage.one, **about)):
        assert [made(claim, positive) for claim in claims] == [rule is not clip.ratio_min, rule is not clip.ppo]
        assert made(always, positive) == (rule is clip.ratio_min)
    for negative in (setup(PLUS_MINUS, **about), setup(advantage=advantage.group, **about), setup(None, **about)):
        assert not any(made(claim, negative) for claim in claims)
        assert made(always, negative) == (rule is clip.ratio_min)
    cispo = partial(clip.cispo, low=0.3, high=0.2)
    assert not any(made(claim, setup(ratio=ratio.token, clip=cispo)) for claim in claims)
    assert not same_surrogates(cispo, partial(clip.cispo, low=0.6, high=0.2), never)


@proves("a_signed_weight_has_no_rewards")
@pytest.mark.parametrize("verdicts", [ZERO_ONE, PLUS_MINUS])
@pytest.mark.parametrize("chosen", [select.all_samples, select.positive, select.negative, select.mixed_prompts])
def test_a_weight_of_rewards_that_no_kept_sample_has_changes_nothing(verdicts: Verdicts, chosen):
    def of(w_pos: float, w_neg: float) -> Setup:
        return setup(verdicts, advantage=partial(advantage.signed, w_pos=w_pos, w_neg=w_neg), select=chosen)

    base = batch_loss(of(0.1, 1.0))
    said = equal_settings.a_signed_weight_has_no_rewards(of(0.1, 1.0)) or ""
    changes = {"w_pos": not equal_losses(base, batch_loss(of(0.7, 1.0)))}
    changes["w_neg"] = not equal_losses(base, batch_loss(of(0.1, 0.3)))
    assert [name for name in changes if f"{name} changes nothing" in said] == [n for n in changes if not changes[n]][:1]


@proves("best_are_the_correct")
def test_with_verdicts_the_best_are_the_correct():
    for correct, wrong in ((1.0, 0.0), (1.0, -1.0), (-0.5, 2.0)):
        rewards = torch.where(CORRECT, correct, wrong)
        assert torch.equal(select.best(rewards, CORRECT), select.positive(rewards, CORRECT))
    assert made(equal_settings.best_are_the_correct, setup(select=select.best))
    assert not made(equal_settings.best_are_the_correct, setup(None, select=select.best))


def forward_kl(policy: Table, reference: Table) -> Tensor:
    """E over responses of Σ_t KL(π_ref‖π) of the next token, with the responses' probabilities held fixed."""
    mine, other = policy.logits.log_softmax(1), reference.logits.log_softmax(1).detach()
    at_prefix = (other.exp() * (other - mine)).sum(1)
    return sum((_chance(policy, a) * _at(at_prefix, a) for a in RESPONSES), torch.zeros(()).double())


def backward_kl(policy: Table, reference: Table) -> Tensor:
    mine, other = policy.logits.log_softmax(1), reference.logits.log_softmax(1).detach()
    at_prefix = (mine.exp() * (mine - other)).sum(1)
    return sum((_chance(policy, a) * _at(at_prefix, a) for a in RESPONSES), torch.zeros(()).double())


def _chance(policy: Table, response: Sequence[int]) -> Tensor:
    return policy.logprobs(response).sum().exp().detach()


def _at(by_prefix: Tensor, response: Sequence[int]) -> Tensor:
    prefixes: list[tuple[int, ...]] = [*PREFIXES]
    return torch.stack([by_prefix[prefixes.index(tuple(response[:t]))] for t in range(len(response))]).sum()


@proves("k3_in_the_loss_is_the_forward_kl")
def test_k3_in_the_loss_has_the_gradient_of_the_forward_kl_on_average():
    def gradient(term: KL) -> Tensor:
        objective = PolicyObjective(ratio.log_probability, clip.unclipped, term, 0.0)
        return expected_gradient(objective, aggregate.sequence_sum, rows=1)

    forward, backward = (POLICY.gradient(of(POLICY, REFERENCE)) for of in (forward_kl, backward_kl))
    assert not same(forward, backward)
    for term, true in (
        (KL(kl.k3, 1.0), forward),
        (KL(kl.k3, 1.0, weight="ratio"), backward),
        (KL(kl.k2, 1.0), backward),
    ):
        assert same(gradient(term), true)
        about = setup(kl=term)
        assert made(biased_settings.k3_in_the_loss_is_the_forward_kl, about) == (true is forward)
    assert not made(biased_settings.k3_in_the_loss_is_the_forward_kl, setup(kl=KL(kl.k3, 1.0, place="reward")))
    assert not made(biased_settings.k3_in_the_loss_is_the_forward_kl, setup(kl=KL(kl.k3, 1.0), select=select.best))


@pytest.mark.parametrize("rule", [aggregate.sequence_sum, aggregate.sequence_mean])
def test_k1_times_the_ratio_has_the_gradient_of_k2(rule):
    """Neither zero nor one of lengths: what is said of k1 in the loss is not said of it."""
    plain = PolicyObjective(ratio.log_probability, clip.unclipped, KL(kl.k2, 1.0), 0.0)
    weighed = replace(plain, kl=KL(kl.k1, 1.0, weight="ratio"))
    of_k1 = replace(plain, kl=KL(kl.k1, 1.0))
    found, k2, k1 = (expected_gradient(each, rule, rows=1) for each in (weighed, plain, of_k1))
    assert same(found - k1, k2)  # ∇(r·Δ) = Δ·∇log π + ∇log π, of which the second part is that of k1 alone
    assert same(found, k2) == (rule is aggregate.sequence_sum)
    of_plain_k1 = ("k1_has_no_mean_gradient", "k1_favours_length", "k1_lowers_what_is_kept", "k1_acts_within_its_clamp")
    for chosen in (select.all_samples, select.best):
        for clamp in (None, 2.0):
            about = setup(kl=KL(kl.k1, 1.0, weight="ratio", clamp=clamp), aggregate=rule, select=chosen)
            assert not any(made(getattr(notices, name), about) for name in of_plain_k1)


@proves("k2_times_the_ratio_is_not_the_kl")
def test_k2_times_the_ratio_has_the_gradient_of_half_a_square_beside_that_of_the_kl():
    def gradient(term: KL) -> Tensor:
        objective = PolicyObjective(ratio.log_probability, clip.unclipped, term, 0.0)
        return expected_gradient(objective, aggregate.sequence_sum, rows=1)

    mine, other = POLICY.logits.log_softmax(1), REFERENCE.logits.log_softmax(1).detach()
    square = (mine.exp() * ((mine - other) ** 2 / 2).detach()).sum(1)
    beside = sum((_chance(POLICY, a) * _at(square, a) for a in RESPONSES), torch.zeros(()).double())
    true, more = POLICY.gradient(backward_kl(POLICY, REFERENCE)), POLICY.gradient(beside)
    assert more.abs().max() > 0.01
    for term, found in (
        (KL(kl.k2, 1.0), true),
        (KL(kl.k2, 1.0, weight="ratio"), true + more),
        (KL(kl.k3, 1.0, weight="ratio"), true),
    ):
        assert same(gradient(term), found)
        assert made(biased_settings.k2_times_the_ratio_is_not_the_kl, setup(kl=term)) == (found is not true)
    previous = KL(kl.k2, 1.0, weight="ratio", reference="previous")
    for updates in (1, 2):
        about = setup(kl=previous, updates=updates)
        assert made(biased_settings.k2_times_the_ratio_is_not_the_kl, about) == (updates == 2)


@proves("lengths_divide_gradients")
def test_sequence_mean_divides_the_gradient_of_a_response_by_its_length():
    plain = PolicyObjective(ratio.log_probability, clip.unclipped, None, 0.0)
    for response in RESPONSES:
        found = {
            rule: POLICY.gradient(loss_of(plain, rule, [response], [[2.0] * len(response)]))
            for rule in (aggregate.sequence_mean, aggregate.sequence_sum)
        }
        assert same(found[aggregate.sequence_mean] * len(response), found[aggregate.sequence_sum])
    for rule in AGGREGATES:
        claimed = made(biased_settings.lengths_divide_gradients, setup(aggregate=rule))
        assert claimed == (rule is aggregate.sequence_mean)


@pytest.mark.parametrize(
    "clipping",
    [clip.unclipped, PPO, partial(clip.cispo, low=1.0, high=0.2), clip.topr, partial(clip.cpgd, low=0.2, high=0.2)],
)
def test_sequence_mean_undoes_the_lengths_of_a_product_of_ratios(clipping):
    """Each token has the product's gradient, so that their mean is that of the whole response's log-probability."""
    product = PolicyObjective(ratio.sequence_product, clipping, None, 0.0)
    about = setup(ratio=ratio.sequence_product, clip=clipping, aggregate=aggregate.sequence_mean)
    for response in RESPONSES:
        found = POLICY.gradient(loss_of(product, aggregate.sequence_mean, [response], [[2.0] * len(response)]))
        whole = POLICY.gradient(-2.0 * POLICY.logprobs(response).sum())
        divided = not same(found, whole)
        assert same(found, whole / len(response)) or not divided
        if len(response) > 1:
            assert made(biased_settings.lengths_divide_gradients, about) == divided


@proves("deviations_weigh_prompts")
def test_a_deviation_divides_the_advantages_of_its_prompt():
    rewards = CORRECT[CORRECT.any(1) & ~CORRECT.all(1)].double()
    centred, scaled = (partial(advantage.group, scale=scale, eps=0.0)(rewards) for scale in ("none", "std"))
    assert same(scaled * rewards.std(1, keepdim=True), centred)
    weight = 1 / rewards.std(1)
    assert weight[1] > weight[0]  # one right of four weighs more than two of four
    assert made(biased_settings.deviations_weigh_prompts, setup(advantage=advantage.group))
    few = torch.tensor([[1.0, 0, 0], [1, 1, 0]]).std(1)
    assert few[0] == pytest.approx(float(few[1]))
    assert not made(biased_settings.deviations_weigh_prompts, setup(samples=3, advantage=advantage.group))
    plain = partial(advantage.group, scale="none")
    assert not made(biased_settings.deviations_weigh_prompts, setup(advantage=plain))
    both = torch.ones(1, dtype=torch.float64)
    whole = torch.ones_like(rewards, dtype=torch.bool)
    several = advantage.each_reward(rewards, rewards[..., None], both, whole, eps=0.0)
    ratios = several / scaled  # whitened over the batch, which weighs no prompt against another
    assert same(ratios, ratios[0, 0].expand_as(ratios))
    assert made(biased_settings.deviations_weigh_prompts, setup(advantage=advantage.each_reward))


@proves("product_of_ratios_grows")
def test_the_second_moment_of_a_product_of_ratios_is_the_product_of_its_tokens():
    old, new = (torch.tensor(p, dtype=torch.float64) for p in ([0.5, 0.3, 0.2], [0.3, 0.3, 0.4]))
    second = float((old * (new / old).square()).sum())
    for length in (1, 2, 5):
        drawn = torch.tensor(list(itertools.product(range(3), repeat=length)))
        response = torch.ones_like(drawn, dtype=torch.bool)
        chance = old[drawn].prod(1)
        moments = {}
        for rule in (ratio.sequence_product, ratio.sequence):
            found = rule(new[drawn].log(), old[drawn].log(), response)[:, 0]
            moments[rule] = float((chance * found.square()).sum())
        assert moments[ratio.sequence_product] == pytest.approx(second**length, abs=1e-12)
        assert moments[ratio.sequence] <= second + 1e-12
    assert second > 1
    assert made(biased_settings.product_of_ratios_grows, setup(updates=2, ratio=ratio.sequence_product))
    assert not made(biased_settings.product_of_ratios_grows, setup(updates=1, ratio=ratio.sequence_product))
    assert not made(biased_settings.product_of_ratios_grows, setup(updates=2, ratio=ratio.sequence))


BOUNDED = {
    "cispo": partial(clip.cispo, low=1.0, high=0.2),
    "sapo": partial(clip.sapo, positive=1.0, negative=1.05),
    "topr": clip.topr,
    "vespo": partial(clip.vespo, k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0),
    "dppo": partial(clip.dppo, low=0.2, high=0.2, cap=20.0),
    "cpgd": partial(clip.cpgd, low=0.2, high=0.2),
    "dual": partial(clip.dual, low=0.2, high=0.2, c=3.0),
    "ratio_min": partial(clip.ratio_min, low=0.2, high=0.2),
}


@pytest.mark.parametrize(("name", "rule"), [*BOUNDED.items(), ("none", clip.unclipped), ("ppo", PPO)])
def test_a_product_of_ratios_is_no_danger_where_the_rule_bounds_its_weight(name: str, rule):
    """At a ratio of e^15 the factor of ∂ log π of a rule that is called bounded is at most 20, for either sign."""
    old = torch.full((2, 1), -16.0, dtype=torch.float64)
    logprobs = (old + 15).requires_grad_()
    sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    names = {"logprobs": logprobs, "old": old, "sampled": old, "response": torch.ones_like(old, dtype=torch.bool)}
    value = rule((logprobs - old).exp(), sign, **given(rule, **names))
    size = float(torch.autograd.grad(value.sum(), logprobs)[0].abs().max())
    assert (size <= 20) == (name in BOUNDED)
    about = setup(PLUS_MINUS, updates=2, ratio=ratio.sequence_product, clip=rule)
    assert made(biased_settings.product_of_ratios_grows, about) == (name not in BOUNDED)
    # Without the negative sign, PPO's bound is one too.
    of_good = float(
        torch.autograd.grad(rule((logprobs - old).exp(), sign.abs(), **given(rule, **names)).sum(), logprobs)[0]
        .abs()
        .max()
    )
    assert (of_good <= 20) == (name != "none")
    good = setup(updates=2, ratio=ratio.sequence_product, clip=rule, advantage=advantage.one)
    assert made(biased_settings.product_of_ratios_grows, good) == (name == "none")


@proves("cpgd_reads_no_ratio")
def test_cpgd_is_the_same_under_every_ratio():
    rule = BOUNDED["cpgd"]
    moved = (POLICY.logprobs(DRAWN[0][0]).detach() + 0.3)[None]
    old, response = moved - 0.3, torch.ones_like(moved, dtype=torch.bool)
    given_by = [of(moved, old, response) for of in (ratio.token, ratio.sequence, ratio.sequence_product)]
    values = [rule(of, torch.ones_like(moved), logprobs=moved, old=old) for of in given_by]
    assert same(values[0], values[1])
    assert same(values[0], values[2])
    assert made(equal_settings.cpgd_reads_no_ratio, setup(updates=2, ratio=ratio.token, clip=rule))
    assert not made(equal_settings.cpgd_reads_no_ratio, setup(updates=2, ratio=ratio.token, clip=PPO))


@proves("ones_pull_up_wrong_samples")
@pytest.mark.parametrize(
    "chosen", [*biased_settings.MAY_KEEP_WRONG_SAMPLES, select.best, select.positive], ids=lambda rule: rule.__name__
)
def test_an_advantage_of_one_pulls_up_what_is_kept(chosen):
    """A step makes some wrong sample that is kept more probable, or there is none."""
    rewards = CORRECT.double()
    kept = chosen(rewards, CORRECT)
    pulled = advantage.one(rewards)[kept & ~CORRECT]
    assert bool((pulled > 0).any()) == (chosen not in (select.best, select.positive))
    about = setup(select=chosen, advantage=advantage.one)
    assert made(biased_settings.ones_pull_up_wrong_samples, about) == bool(len(pulled))
    assert not made(biased_settings.ones_pull_up_wrong_samples, setup(select=chosen))


@proves("nothing_bounds_the_ratio")
def test_without_clipping_a_gradient_grows_with_its_ratio():
    sizes = torch.tensor([1.0, 10.0, 1000.0], dtype=torch.float64)
    for rule, grows in ((clip.unclipped, True), (PPO, False)):
        logs = sizes.log().requires_grad_()
        slope = torch.autograd.grad(rule(logs.exp()[None], torch.ones_like(sizes)[None]).sum(), logs)[0]
        assert same(slope, sizes) == grows
        about = setup(updates=4, ratio=ratio.token, clip=rule)
        assert made(biased_settings.nothing_bounds_the_ratio, about) == grows
    assert not made(biased_settings.nothing_bounds_the_ratio, setup(updates=1, ratio=ratio.token))
    assert not made(biased_settings.nothing_bounds_the_ratio, setup(updates=4))


def slopes(rule, change: Tensor, sign: float) -> Tensor:
    """The gradient of a clip rule with respect to log ratios, one response of one row, with an advantage of ±1."""
    logs = change.clone().requires_grad_()
    surrogate = rule(logs.exp(), torch.full_like(logs, sign))
    return torch.autograd.grad(surrogate.sum(), logs)[0]


@proves("bounds_of_responses_on_tokens")
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_token_just_outside_of_small_bounds_has_no_gradient(sign: float):
    rule, bound = partial(clip.ppo, low=3e-4, high=4e-4), 4e-4 if sign > 0 else 3e-4
    moved = torch.tensor([[0.99, 1.01, -1.01]], dtype=torch.float64) * bound * sign
    assert (slopes(rule, moved.log1p(), sign) != 0).tolist() == [[True, False, True]]
    about = setup(updates=4, ratio=ratio.token, clip=rule)
    said = clip_bounds.bounds_of_responses_on_tokens(about)
    assert said is not None
    assert "[0.9997, 1.0004]" in said
    far, weight = PPO, partial(clip.cispo, low=1e-3, high=1e-3)
    for of, clipping in ((ratio.sequence, rule), (ratio.token, far), (ratio.token, weight)):
        assert not made(clip_bounds.bounds_of_responses_on_tokens, setup(updates=4, ratio=of, clip=clipping))
    assert not made(clip_bounds.bounds_of_responses_on_tokens, setup(updates=1, ratio=ratio.token, clip=rule))


@proves("bounds_of_tokens_on_responses")
@pytest.mark.parametrize("length", [2, 5, 30])
@pytest.mark.parametrize(("sign", "edge"), [(1.0, 1.2), (-1.0, 0.8)])
def test_a_mean_ratio_within_a_bound_leaves_the_whole_ratio_its_power(length: int, sign: float, edge: float):
    """Tokens that all stand just inside or outside of the bound: their product is the bound to the power of n."""
    old, response = torch.zeros(1, length, dtype=torch.float64), torch.ones(1, length, dtype=torch.bool)
    for aside, acts in ((-1e-9, False), (1e-9, True)):
        logprobs = torch.full_like(old, math.log(edge) + sign * aside)
        assert ratio.sequence_product(logprobs, old, response)[0, 0].item() == pytest.approx(edge**length, rel=1e-6)
        mean = ratio.sequence(logprobs, old, response)
        assert bool((slopes(PPO, mean.log(), sign) == 0).all()) == acts
    about = setup(updates=4, ratio=ratio.sequence, clip=PPO)
    said = clip_bounds.bounds_of_tokens_on_responses(about)
    assert said is not None
    assert f"{edge:g}^n" in said
    narrow = partial(clip.ppo, low=3e-4, high=4e-4)
    for of, clipping in ((ratio.token, PPO), (ratio.sequence, narrow), (ratio.sequence, clip.unclipped)):
        assert not made(clip_bounds.bounds_of_tokens_on_responses, setup(updates=4, ratio=of, clip=clipping))
    assert not made(clip_bounds.bounds_of_tokens_on_responses, setup(updates=1, ratio=ratio.sequence, clip=PPO))


@proves("thresholds_of_total_variation_on_a_kl")
@pytest.mark.parametrize("threshold", [0.05, 0.08, 0.15, 0.2])
def test_a_kl_within_a_threshold_leaves_almost_the_move_that_pinsker_allows(threshold: float):
    """Over a grid of old and new probabilities: the largest move that keeps its gradient."""
    grid = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    old, new = torch.meshgrid(grid, grid, indexing="ij")
    rule = partial(clip.dppo, low=threshold, high=threshold, cap=1e9, divergence="kl")
    logprobs = new.log().requires_grad_()
    surrogate = rule((new / old), torch.ones_like(new), logprobs=logprobs, sampled=old.log())
    kept = torch.autograd.grad(surrogate.sum(), logprobs)[0] != 0
    largest, bound = float((new - old)[kept & (new > old)].max()), math.sqrt(threshold / 2)
    assert 0.9 * bound < largest <= bound
    about = setup(updates=4, ratio=ratio.token, clip=rule)
    beyond = bound > clip_bounds.LARGEST_TOTAL_VARIATION
    assert made(clip_bounds.thresholds_of_total_variation_on_a_kl, about) == beyond
    for other in (partial(rule, divergence="tv"), PPO):
        assert not made(
            clip_bounds.thresholds_of_total_variation_on_a_kl, setup(updates=4, ratio=ratio.token, clip=other)
        )
    once = setup(updates=1, ratio=ratio.token, clip=rule)
    assert not made(clip_bounds.thresholds_of_total_variation_on_a_kl, once)
    inexact = replace(once, samples_exactly=False)  # whose probabilities are others from the first update on
    assert made(clip_bounds.thresholds_of_total_variation_on_a_kl, inexact) == beyond


@pytest.mark.parametrize("algo", [*SINCE, "dppo algo/clip=dppo_kl", "reinforce algo/clip=clip_higher"])
def test_bounds_of_no_algorithm_are_made_for_another_quantity(algo: str):
    cfg = composed("train", f"algo={algo}".split(), ("algo",))
    assert [found for found in notices.findings_of(cfg, build_algorithm(cfg)) if found.kind is Kind.BOUNDS] == []


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("algo=gspo algo/ratio=token", "type algo/ratio=sequence, or algo/clip=ppo"),
        ("algo=grpo algo/ratio=sequence", "type algo/clip=gspo"),
        ("algo=dppo algo.clip.divergence=kl", "type algo/clip=dppo_kl"),
    ],
)
def test_bounds_that_stay_behind_are_told(words: str, instead: str):
    cfg = composed("train", words.split(), ("algo",))
    [found] = [found for found in notices.findings_of(cfg, build_algorithm(cfg)) if found.kind is Kind.BOUNDS]
    assert instead in found.text


@pytest.mark.parametrize("changed", [{"truncated": "drop"}, {"select": select.best}])
def test_where_samples_are_left_out_their_place_in_the_batch_matters(changed):
    """Responses that are cut off are left out too, and so is what a collector draws and does not keep."""
    assert made(notices.rejected_changes_nothing, setup(rejected="zero"))
    assert not made(notices.rejected_changes_nothing, setup(rejected="zero", **changed))
    assert not made(notices.rejected_changes_nothing, replace(setup(rejected="zero"), keeps_all_drawn=False))
    k1 = KL(kl.k1, 0.1)
    assert made(notices.k1_lowers_what_is_kept, setup(kl=k1, **changed))
    assert not made(notices.k1_lowers_what_is_kept, setup(kl=k1))
    passed_over = replace(setup(kl=k1, rejected="zero"), keeps_all_drawn=False)
    assert made(notices.k1_lowers_what_is_kept, passed_over)
    assert not made(notices.k1_has_no_mean_gradient, passed_over)


def test_a_default_run_of_each_algorithm_says_little():
    """Biases of the paper's own algorithms stand in `winnow explain`, and not before every run."""
    for name in ("raft", "raftpp", "reinforce", "reinforce_rej", "grpo", "ppo", "dpo", "sft"):
        cfg = composed("train", [f"algo={name}"], ("algo",))
        assert notices.notices_of(cfg, build_algorithm(cfg)) == [], name


@pytest.mark.parametrize("algo", SINCE)
def test_no_later_algorithm_is_called_unstable_where_its_own_rule_is_the_bound(algo: str):
    cfg = composed("train", [f"algo={algo}"], ("algo",))
    assert [found for found in notices.findings_of(cfg, build_algorithm(cfg)) if found.kind is Kind.UNSTABLE] == []


def test_a_resumed_run_does_not_tell_of_its_biases_again():
    cfg = composed("train", ["algo=grpo", "algo/kl=k3", "algo.rejected=zero"], ("algo",))
    algorithm = build_algorithm(cfg)
    first, again = (notices.notices_of(cfg, algorithm, resumed) for resumed in (False, True))
    assert ["k3" in line for line in first] == [True, False] or ["k3" in line for line in first] == [False, True]
    assert [line for line in first if "k3" not in line] == again


ONCE_FROM_ITSELF = ["algo=dpo", "algo.reference=previous", "update.minibatches=1"]
ONCE = ["algo=grpo", "update.minibatches=1"]
ALTERED = ["algo=raftpp", "engine/alter=int8", "algo/correction=truncated"]
SAME = [
    (["algo=grpo"], ["algo=grpo", "algo.rejected=zero"]),
    (["algo=raftpp"], ["algo=raftpp", "algo.clip.low=0.5"]),
    (["algo=raftpp"], ["algo=raftpp", "algo/clip=ratio_min"]),
    (["algo=raftpp"], ["algo=raftpp", "algo/select=positive"]),
    (["algo=cpgd"], ["algo=cpgd", "algo/ratio=sequence"]),
    (["algo=raft", "update.minibatches=1"], ["algo=raftpp", "update.minibatches=1"]),
    (["algo=grpo", "algo.rejected=zero"], ["algo=grpo", "algo.rejected=zero", "algo/select=mixed_prompts"]),
    (["algo=reinforce", "algo/advantage=group"], ["algo=grpo", "logger=csv"]),
    (["algo=reinforce"], ["algo=grpo", "algo.advantage.centre=none", "algo.advantage.scale=none"]),
    (["algo=reinforce"], ["algo=w_reinforce", "algo.advantage.w_pos=1.0"]),
    (["algo=grpo", "algo/advantage=centred"], ["algo=grpo", "algo/advantage=centred", "algo.advantage.eps=1e-4"]),
    (["algo=raftpp"], ["algo=raftpp", "algo/tokens=low_covariance"]),
    ([*ONCE], [*ONCE, "algo/clip=sapo", "algo.clip.positive=10", "algo.clip.negative=10"]),
    (["algo=dpo", "algo/divergence=forward_kl"], ["algo=dpo", "algo/divergence=alpha", "algo.divergence.order=0"]),
    ([*ONCE_FROM_ITSELF], [*ONCE_FROM_ITSELF, "algo/divergence=forward_kl"]),
]
DIFFERENT = [
    (["algo=grpo"], ["algo=grpo", "seed=1"]),
    (["algo=grpo"], ["algo=grpo", "algo/select=mixed_prompts"]),
    (["algo=grpo", "algo.truncated=drop"], ["algo=grpo", "algo.truncated=drop", "algo.rejected=zero"]),
    (["algo=grpo"], ["algo=grpo", "algo.clip.low=0.5"]),
    (["algo=grpo"], ["algo=grpo", "algo.advantage.eps=1e-4"]),
    (["algo=reinforce"], ["algo=grpo", "algo/advantage=centred"]),
    (["algo=raftpp"], ["algo=raftpp", "algo.clip.high=0.5"]),
    (["algo=raft"], ["algo=raftpp"]),
    (["algo=reinforce", "algo/clip=ratio_min"], ["algo=reinforce"]),
    (["algo=grpo"], ["algo=grpo", "algo/tokens=low_covariance"]),
    ([*ALTERED, "algo/tokens=all"], [*ALTERED, "algo/tokens=low_covariance"]),
    ([*ONCE, "algo/clip=sapo"], [*ONCE, "algo/clip=sapo", "algo.clip.positive=1e8", "algo.clip.negative=1e8"]),
    ([*ONCE], [*ONCE, "algo/clip=vespo", "algo.clip.k_pos=1e8", "algo.clip.k_neg=1e8"]),
    ([*ONCE_FROM_ITSELF], [*ONCE_FROM_ITSELF, "algo/divergence=alpha", "algo.divergence.order=1e7"]),
    (["algo=dpo"], ["algo=dpo", "algo/divergence=jensen_shannon"]),
    ([*ONCE_FROM_ITSELF], [*ONCE_FROM_ITSELF, "algo/preference=hinge"]),
    ([*ONCE_FROM_ITSELF], [*ONCE_FROM_ITSELF, "algo/divergence=jensen_shannon"]),
    (["algo=grpo", "update.minibatches=1"], ["algo=grpo", "update.minibatches=1", "algo.clip.high=1e-5"]),
    (["algo=grpo", "update.minibatches=1"], ["algo=grpo", "update.minibatches=1", "algo/clip=dual", "algo.clip.c=1"]),
]


@pytest.mark.parametrize("penalised", [False, True])
def test_rules_of_advantage_that_share_a_plainest_form_are_equal(penalised: bool):
    draws = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rewards, penalty = draws[0], draws[1] if penalised else None
    plain = advantage.reward(rewards, penalty)
    assert same(advantage.group(rewards, penalty, centre="none", scale="none"), plain)
    assert same(advantage.signed(rewards, penalty, w_pos=1.0, w_neg=1.0), plain)
    for centre in ("mean", "leave_one_out"):
        a, b = (advantage.group(rewards, penalty, centre=centre, scale="none", eps=eps) for eps in (1e-6, 0.5))
        assert same(a, b)
        assert not same(a, plain)


@proves("equal_advantages_have_no_covariance")
@pytest.mark.parametrize("value", [1.0, -1.0, 0.7, 1e-3])
def test_where_all_advantages_are_equal_no_token_has_a_covariance(value: float):
    drawn = torch.Generator().manual_seed(5)
    entropies, logprobs = torch.rand(2, 6, 9, dtype=torch.float64, generator=drawn)
    response = torch.rand(6, 9, generator=drawn) < 0.7
    equal = torch.where(response, value, 0.0).double()
    unequal = equal * torch.tensor([1.0, -1.0, 1.0, 0.5, 2.0, 1.0])[:, None]
    for advantages, all_stay in ((equal, True), (unequal, False)):
        kept = low_covariance(entropies, response, -logprobs, advantages, share=0.2)
        assert bool((kept == response).all()) == all_stay


def test_a_correction_makes_equal_advantages_unequal():
    """The rule of tokens reads what is left of them: 0.5 and 1 of two advantages of 1."""
    about = setup(advantage=advantage.one, select=select.best, tokens=partial(low_covariance, share=0.2))
    assert made(equal_settings.equal_advantages_have_no_covariance, about)
    corrected = replace(about, algorithm=replace(about.algorithm, correction=partial(ratio.truncated, cap=1.0)))
    assert not made(equal_settings.equal_advantages_have_no_covariance, corrected)
    logprobs, response = torch.tensor([[-1.0, -2.0]]), torch.ones(1, 2, dtype=torch.bool)
    for weights, all_stay in (([1.0, 1.0], True), ([1.0, 0.5], False)):
        kept = low_covariance(-logprobs, response, logprobs, torch.tensor([weights]), share=0.5)
        assert bool(kept.all()) == all_stay
    words = ["algo=raftpp", "algo/tokens=low_covariance", "engine/alter=int8", "algo/correction=truncated"]
    assert "·(w_t − mean_T(w_t))" in explain(words)


def test_of_which_batches_it_is_known_that_all_advantages_are_equal():
    claim, rule = equal_settings.equal_advantages_have_no_covariance, partial(low_covariance, share=0.2)
    two_ways_to_be_wrong = Verdicts(1, -1, -0.5)
    for verdicts, settings, equal in (
        (None, {"advantage": advantage.one, "select": select.best}, True),
        (PLUS_MINUS, {"select": select.positive}, True),
        (PLUS_MINUS, {"select": select.negative}, True),
        (two_ways_to_be_wrong, {"select": select.negative}, False),
        (None, {"select": select.positive}, False),
        (PLUS_MINUS, {}, False),
        (None, {"advantage": advantage.one, "select": select.best, "rejected": "zero"}, False),
        (None, {"advantage": advantage.one, "rejected": "zero"}, True),
        (PLUS_MINUS, {"advantage": advantage.group, "select": select.positive}, False),
        (PLUS_MINUS, {"select": select.positive, "kl": KL(kl.k1, 0.1, place="reward")}, False),
    ):
        assert made(claim, setup(verdicts, tokens=rule, **settings)) == equal, (verdicts, settings)
        assert not made(claim, setup(verdicts, tokens=partial(top_entropy, share=0.2), **settings))


def essence_of(words: Sequence[str]) -> str:
    return essence(composed("train", words, ("algo",)))


@pytest.mark.parametrize(("a", "b"), SAME)
def test_runs_that_are_proven_to_be_the_same_have_one_essence(a: list[str], b: list[str]):
    assert essence_of(a) == essence_of(b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_other_runs_have_not(a: list[str], b: list[str]):
    assert essence_of(a) != essence_of(b)


PLUGIN = """
import winnow.ops.ratio as ours
def two_less(ratio): return ratio - 2
from winnow.algorithm import PolicyGradient
class Mine(PolicyGradient): pass
def half(logprobs, old, response): return 0.5 * ours.token(logprobs, old, response)
"""


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["algo=raftpp", "algo.correction._target_=rules_of_a_plugin.two_less"], ["algo.clip.low=0.5"]),
        (["algo=vespo", "algo.ratio._target_=rules_of_a_plugin.half", "update.minibatches=1"], ["algo.clip.k_neg=2"]),
    ],
)
def test_nothing_is_the_same_beside_a_rule_of_a_plugin(
    words: list[str], more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "rules_of_a_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["plugins=[rules_of_a_plugin]", *words]
    assert essence_of(words) != essence_of([*words, *more])
    cfg = composed("train", words, ("algo",))
    found = notices.findings_of(cfg, build_algorithm(cfg))
    assert [finding for finding in found if finding.kind in (Kind.INERT, Kind.EQUAL)] == []


def test_a_class_of_a_plugin_is_told_with_its_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "rules_of_a_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["plugins=[rules_of_a_plugin]", "algo=raftpp", "algo._target_=rules_of_a_plugin.Mine"]
    assert "rules_of_a_plugin.Mine" in explain(words)
    assert "both train the same" not in difference(words, [*words, "algo.clip.low=0.5"])


def test_the_order_and_the_kind_of_keys_are_no_part_of_an_essence():
    files = "eval.files={1: a.jsonl, b: b.jsonl}", "eval.files={b: b.jsonl, 1: a.jsonl}"
    a, b = (essence_of(["algo=grpo", word]) for word in files)
    assert a == b


def test_a_sweep_tells_of_jobs_that_are_the_same_run(capfd: pytest.CaptureFixture[str]):
    jobs = [["algo=raftpp", "seed=1"], ["algo=grpo", "seed=1"], ["algo=raftpp", "algo.clip.low=0.5", "seed=1"]]
    program = programs.training()
    composer = program._composer(read_command_line([]))
    program._validate_all(composer, jobs)
    said = [line for line in capfd.readouterr().out.splitlines() if "the same run" in line]
    assert said == [
        "note: algo=raftpp and algo=raftpp algo.clip.low=0.5 are the same run, up to rounding: the settings in which "
        "they differ change nothing"
    ]


def test_every_rule_is_proven():
    assert {rule.rule.__name__ for rule in (*equal_settings.RULES, *biased_settings.RULES)} <= PROVEN
    assert len({rule.rule for rule in NOTICES}) == len(NOTICES)
