"""Rows whose numbers are not finite leave an iteration's experience as if they had been rejected."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fakes import HandMade, SpyCritic, spied
from winnow.algorithm import ActorCritic, PolicyGradient, Preference
from winnow.experience.batching import Experience
from winnow.experience.left_out import Site
from winnow.experience.loader import ExperienceSource
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import ActorCriticExperience, PolicyGradientExperience
from winnow.experience.preference import PreferenceExperience
from winnow.objectives import KL
from winnow.ops import advantage, aggregate, clip, kl, preference, ratio, select
from winnow.types import Pair, Rollouts, Row, SampleFacts

COMMON = {
    "ratio": ratio.token,
    "clip": partial(clip.ppo, low=0.2, high=0.2),
    "aggregate": aggregate.sequence_mean,
    "kl": None,
    "correction": ratio.uncorrected,
    "entropy": 0.0,
    "rejected": "drop",
}
K3 = KL(kl.k3, coef=0.1)


def spoilt(name: str, value: float) -> Callable[[Rollouts], Rollouts]:
    """A change of row 1, sample 1 of prompt 0: its last number `name` is `value`."""

    def change(found: Rollouts) -> Rollouts:
        if name == "reward":
            rewards = found.rewards.clone()
            rewards[0, 1] = value
            return replace(found, rewards=rewards)
        numbers = getattr(found.completions[0][1], name).clone()
        numbers[-1] = value
        row = replace(found.completions[0][1], **{name: numbers})
        return replace(found, completions=((found.completions[0][0], row), *found.completions[1:]))

    return change


def collector(change: Callable[[Rollouts], Rollouts] = lambda found: found) -> HandMade:
    made = HandMade()
    made.rollouts = change(made.rollouts)
    return made


def grpo(made: HandMade, **axes: object) -> ExperienceSource:
    rule = PolicyGradient(**{**COMMON, "select": select.all_samples, "advantage": advantage.group, "kl": K3, **axes})  # pyright: ignore
    return PolicyGradientExperience(made, spied(kl_rows=6).scorer, rule, 2)


def ppo(made: HandMade, **axes: object) -> ExperienceSource:
    settings = {"whiten": True, "value_clip": 0.2, "critic_lr_ratio": 1.0, "advantage": advantage.gae}
    rule = ActorCritic(**{**COMMON, **settings, "select": select.all_samples, "kl": K3, **axes})  # pyright: ignore
    return ActorCriticExperience(made, spied(kl_rows=6).scorer, SpyCritic(), rule)


def dpo(made: HandMade) -> ExperienceSource:
    return PreferenceExperience(
        made,
        spied(kl_rows=6).scorer,
        Preference(select.extremes, preference.sigmoid, preference.reverse_kl, 0.1, 0.0, "initial"),
    )


def rows_of(found: Experience) -> list[Row]:
    return [row for item in found.items for row in item.rows]


def numbers_of(row: Row) -> list[Tensor]:
    return [x for x in (row.advantage, row.old_logprobs, row.ref_logprobs, row.values, row.returns) if x is not None]


def assert_same(some: list[Row], others: list[Row]) -> None:
    assert [row.token_ids for row in some] == [row.token_ids for row in others]
    for a, b in zip(some, others, strict=True):
        torch.testing.assert_close(numbers_of(a), numbers_of(b), rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "site"), [("logprobs", Site.SAMPLED), ("entropies", Site.SAMPLED_ENTROPY)])
@pytest.mark.parametrize("algo", [grpo, ppo])
def test_the_other_rows_are_those_of_a_run_that_rejects_the_row(
    algo: Callable[..., ExperienceSource], name: str, site: Site, value: float
):
    def all_but_row_1(rewards: Tensor, correct: Tensor) -> Tensor:
        kept = torch.ones_like(correct)
        kept[0, 1] = False
        return kept

    found = algo(collector(spoilt(name, value)))(0, Clock())
    expected = algo(collector(), select=all_but_row_1)(0, Clock())
    assert len(found.items) == 5
    assert_same(rows_of(found), rows_of(expected))
    [out] = found.left_out
    assert out.site is site
    assert not torch.isfinite(out.numbers[f"sampler_{name}"]).all()
    assert all(math.isfinite(number) for number in found.metrics.values())
    assert [record.kept for record in found.records] == [True, False, True, True, True, True]


def test_the_advantages_of_a_prompt_are_those_of_its_finite_rewards():
    """Rewards 1, NaN, 0, −1 centre to 1, 0, −1 over their standard deviation of 1; −1, −1, 1, 1 are untouched."""
    rule = PolicyGradient(**{**COMMON, "select": select.all_samples, "advantage": partial(advantage.group, eps=0.0)})  # pyright: ignore
    rewards = torch.tensor([[1.0, math.nan, 0.0, -1.0], [-1.0, -1.0, 1.0, 1.0]])
    kept = torch.ones(2, 4, dtype=torch.bool)
    found = rule.advantages(rewards, None, kept, SampleFacts.of_verdicts(rewards, kept))
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0, 0.0, -1.0]))
    alone = rule.advantages(rewards[1:], None, kept[1:], SampleFacts.of_verdicts(rewards[1:], kept[1:]))
    torch.testing.assert_close(found[1], alone[0])


def test_whitening_is_over_the_finite_rewards_of_all_prompts():
    """1, 0, −1 and 0, 0 have mean 0 and variance 2/4."""
    rule = PolicyGradient(
        **{**COMMON, "select": select.all_samples, "advantage": partial(advantage.whitened, eps=0.0)}  # pyright: ignore
    )
    rewards = torch.tensor([[1.0, math.inf, 0.0], [-1.0, 0.0, 0.0]])
    every = torch.ones(2, 3, dtype=torch.bool)
    found = rule.advantages(rewards, None, every, SampleFacts.of_verdicts(rewards, every))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]) * math.sqrt(2))


@pytest.mark.parametrize("of", [advantage.group, advantage.whitened, advantage.batch])
def test_an_iteration_without_a_finite_reward_has_no_advantage(of: Callable[..., Tensor]):
    rule = PolicyGradient(**{**COMMON, "select": select.all_samples, "advantage": of})  # pyright: ignore
    rewards, every = torch.full((2, 3), math.nan), torch.ones(2, 3, dtype=torch.bool)
    assert not rule.advantages(rewards, None, every, SampleFacts.of_verdicts(rewards, every)).any()


@pytest.mark.parametrize("algo", [grpo, ppo])
def test_a_reward_that_is_not_finite_leaves_out_its_row_alone(algo: Callable[..., ExperienceSource]):
    found = algo(collector(spoilt("reward", math.nan)))(0, Clock())
    assert [out.site for out in found.left_out] == [Site.REWARD]
    assert len(found.items) == 5
    assert all(torch.isfinite(number).all() for row in rows_of(found) for number in numbers_of(row))
    assert all(math.isfinite(number) for number in found.metrics.values())


@pytest.mark.parametrize("name", ["logprobs", "entropies", "reward"])
def test_no_pair_has_a_row_that_is_left_out(name: str):
    """Row 1 is in the pair of prompt 0; the pair of prompt 2 remains."""
    whole = dpo(collector())(0, Clock())
    found = dpo(collector(spoilt(name, math.nan)))(0, Clock())
    assert len(whole.items) == 2
    assert [item for item in found.items if isinstance(item, Pair)]
    assert_same(rows_of(found), rows_of(whole)[2:])
    assert len(found.left_out) == 1


def test_log_probabilities_of_a_whole_iteration_that_are_not_finite_leave_nothing_to_train_on():
    scorer = spied(exact=False, step=math.nan).scorer
    rule = PolicyGradient(**{**COMMON, "select": select.all_samples, "advantage": advantage.reward})  # pyright: ignore
    found = PolicyGradientExperience(HandMade(), scorer, rule, 2)(0, Clock())
    assert found.items == []
    assert [out.site for out in found.left_out] == [Site.OLD] * 6
