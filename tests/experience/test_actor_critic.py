"""Experience of PPO: rewards per token, values, advantages and returns of each row."""

from functools import partial
from statistics import mean, pvariance, stdev

import pytest
import torch

from fakes import RESPONSES, SEQUENCES, STARTS, HandMade, SpyCritic, initial_of, sampler, spied
from winnow.algorithm import ActorCritic
from winnow.experience.batching import Experience
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import ActorCriticExperience
from winnow.experience.scoring import Scorer
from winnow.objectives import KL
from winnow.ops import advantage, aggregate, clip, kl, ratio, select
from winnow.ops.ratio import uncorrected
from winnow.types import Row

ADVANTAGES = [
    [1 - 0.4, 1 - 0.2],
    [-1 - 0.5, -1 - 0.3, -1 - 0.2],
    [-1 - 0.6],
    [-1 - 0.7, -1 - 0.2],
    [-1 - 0.3],
    [1 - 0.8, 1 - 0.1],
]
"""Advantages of each row's tokens with γ = λ = 1: the reward of the response minus the value of the token."""


def ppo(**changed) -> ActorCritic:
    settings = {
        "select": select.all_samples,
        "advantage": advantage.gae,
        "whiten": False,
        "ratio": ratio.token,
        "clip": clip.unclipped,
        "aggregate": aggregate.sequence_mean,
        "kl": None,
        "correction": uncorrected,
        "entropy": 0.0,
        "rejected": "drop",
        "value_clip": 0.2,
        "critic_lr_ratio": 10.0,
    }
    return ActorCritic(**(settings | changed))


def experience(algorithm: ActorCritic, scorer: Scorer | None = None, critic: SpyCritic | None = None) -> Experience:
    return ActorCriticExperience(HandMade(), scorer or spied().scorer, critic or SpyCritic(), algorithm)(0, Clock())


def by_place(experience: Experience) -> dict[int, Row]:
    return {SEQUENCES.index(row.token_ids): row for row in experience.items if isinstance(row, Row)}


def per_token(place: int, numbers: list[float]) -> torch.Tensor:
    return torch.tensor([0.0] * STARTS[place] + numbers)


def test_the_reward_sits_on_the_last_response_token():
    """With γ = 0.5 and λ = 1 the return is halved with every token before the last."""
    rows = by_place(experience(ppo(advantage=partial(advantage.gae, gamma=0.5))))
    torch.testing.assert_close(rows[0].returns, per_token(0, [0.5, 1.0]))
    torch.testing.assert_close(rows[1].returns, per_token(1, [-0.25, -0.5, -1.0]))
    torch.testing.assert_close(rows[4].returns, per_token(4, [-1.0]))


def test_values_returns_and_advantages_are_those_of_the_row():
    rows = by_place(experience(ppo()))
    assert list(rows) == [0, 1, 2, 3, 4, 5]
    for place, row in rows.items():
        reward = 1.0 if place in (0, 5) else -1.0
        torch.testing.assert_close(row.values, per_token(place, [t / 10 for t in RESPONSES[place]]))
        torch.testing.assert_close(row.returns, per_token(place, [reward] * len(RESPONSES[place])))
        torch.testing.assert_close(row.advantage, per_token(place, ADVANTAGES[place]))


def test_kl_in_the_reward_is_subtracted_token_by_token():
    """β = 0.5 of k1: row 0 has rewards −0.3 and 1 − 0.2, row 1 has −0.35, −0.25 and −1 − 0.2."""
    kit = spied()
    rows = by_place(experience(ppo(kl=KL(kl.k1, coef=0.5, place="reward")), kit.scorer))
    torch.testing.assert_close(rows[0].returns, per_token(0, [0.5, 0.8]))
    torch.testing.assert_close(rows[1].returns, per_token(1, [-1.8, -1.45, -1.2]))
    torch.testing.assert_close(rows[5].returns, per_token(5, [1 - 0.5 - 0.15, 1 - 0.15]))
    assert kit.initial.rows == [0, 1, 2, 3, 4, 5]
    assert rows[0].ref_logprobs is None


def test_unselected_rows_stay_at_advantage_zero():
    rows = by_place(experience(ppo(select=select.mixed_prompts, rejected="zero")))
    assert list(rows) == [0, 1, 2, 3, 4, 5]
    for place in (2, 3):
        assert rows[place].advantage is not None
        assert rows[place].advantage.tolist() == [0.0] * len(SEQUENCES[place])
        torch.testing.assert_close(rows[place].returns, per_token(place, [-1.0] * len(RESPONSES[place])))
    for place in (0, 1, 4, 5):
        torch.testing.assert_close(rows[place].advantage, per_token(place, ADVANTAGES[place]))


def test_unselected_rows_are_dropped():
    rows = by_place(experience(ppo(select=select.mixed_prompts, rejected="drop")))
    assert list(rows) == [0, 1, 4, 5]
    torch.testing.assert_close(rows[5].advantage, per_token(5, ADVANTAGES[5]))
    torch.testing.assert_close(rows[5].values, per_token(5, [0.8, 0.1]))


@pytest.mark.parametrize("rejected", ["drop", "zero"])
def test_whitening_is_over_all_response_tokens_kept_or_not(rejected: str):
    rows = by_place(experience(ppo(select=select.mixed_prompts, whiten=True, rejected=rejected)))
    tokens = [a for advantages in ADVANTAGES for a in advantages]
    assert len(tokens) == 11
    for place in (0, 1, 4, 5):
        white = [(a - mean(tokens)) / stdev(tokens) for a in ADVANTAGES[place]]
        torch.testing.assert_close(rows[place].advantage, per_token(place, white))
    for place in {2, 3} & set(rows):
        assert rows[place].advantage is not None
        assert rows[place].advantage.abs().max() == 0


@pytest.mark.parametrize("reward", [-0.7, 1 / 3, 7e-6, 7e5])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_rewards_and_equal_values_whiten_to_nothing(reward: float, value: float):
    """Every token has the advantage r − v; the last case of `value` is a critic that is right up to rounding."""
    response = torch.ones(4, 30, dtype=torch.bool)
    rewards = torch.zeros(4, 30)
    rewards[:, -1] = reward
    values = torch.full((4, 30), value * reward) * (1 + 6e-8 * (torch.arange(30) % 2))
    advantages, _ = ppo(whiten=True).per_token(rewards, None, values, response)
    assert not advantages.any()


@pytest.mark.parametrize("coefficient", [1e-6, 1e-3])
def test_where_rewards_tie_kl_in_the_reward_is_centred_and_not_whitened(coefficient: float):
    """Penalties from a token to the end of its response are 3 and 2, 1 and 1; their mean is 7/4."""
    response = torch.ones(2, 2, dtype=torch.bool)
    rewards = torch.tensor([[0.0, -0.7], [0.0, -0.7]])
    penalty = coefficient * torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    advantages, returns = ppo(whiten=True).per_token(rewards, penalty, torch.zeros(2, 2), response)
    expected = [[1.75 - 3, 1.75 - 2], [1.75 - 1, 1.75 - 1]]
    torch.testing.assert_close(advantages / coefficient, torch.tensor(expected))
    torch.testing.assert_close(
        returns, torch.tensor([[-0.7, -0.7]] * 2) - coefficient * torch.tensor([[3.0, 2], [1, 1]])
    )


def test_old_and_reference_log_probabilities_are_those_of_the_row():
    kit, critic = spied(), SpyCritic()
    rows = by_place(experience(ppo(select=select.mixed_prompts, kl=KL(kl.k3, coef=0.1)), kit.scorer, critic))
    for place, row in rows.items():
        torch.testing.assert_close(row.old_logprobs, sampler(place))
        torch.testing.assert_close(row.ref_logprobs, initial_of(place))
    # Dropped rows have values, which whitening needs, but no reference log-probabilities.
    assert kit.initial.rows == [0, 1, 4, 5]
    assert sorted(critic.seen) == sorted(SEQUENCES)


def test_rows_without_an_advantage_still_train_the_critic():
    assert experience(ppo(select=select.mixed_prompts, rejected="zero")).zero_gradient == [False] * 6


def test_metrics():
    """Returns are the rewards, values are t/10; the critic's error, return minus value, is here the advantage."""
    errors = [a for advantages in ADVANTAGES for a in advantages]
    returns = [1.0, 1.0] + [-1.0] * 7 + [1.0, 1.0]
    found = experience(ppo()).metrics
    assert found["train/value/explained_var"] == pytest.approx(1 - pvariance(errors) / pvariance(returns))
    assert found["train/adv/mean"] == pytest.approx(mean(errors))
    assert found["train/adv/abs_max"] == pytest.approx(1.7)
    assert found["train/gradient_mass/rows_frac"] == found["train/gradient_mass/tokens_frac"] == 1
    rows = [mean(abs(a) for a in advantages) for advantages in ADVANTAGES]
    assert found["train/gradient_mass/effective_rows"] == pytest.approx(sum(rows) ** 2 / sum(a * a for a in rows))
    found = experience(ppo(select=select.mixed_prompts, rejected="zero")).metrics
    assert found["train/gradient_mass/rows_frac"] == pytest.approx(4 / 6)
    assert (
        found["train/gradient_mass/tokens_kept_frac"]
        == found["train/gradient_mass/tokens_frac"]
        == pytest.approx(8 / 11)
    )
