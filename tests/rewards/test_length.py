"""Penalties on lengths: DAPO's Eq. 13 by hand, and the reward that they shape beside a verdict that they do not."""

import pytest
import torch

from running import composed
from winnow.assemble.rewards import evaluation_reward, reward_of
from winnow.errors import ConfigError
from winnow.rewards.length import Overlong, Truncated
from winnow.rewards.reward import JudgedGroup
from winnow.types import Completion, Finish, Prompt
from winnow.verdict import Judgement, Verdict

RIGHT, WRONG = Judgement(Verdict.correct, "1"), Judgement(Verdict.wrong, "2")


@pytest.mark.parametrize(("length", "penalty"), [(1, 0), (16, 0), (17, -0.25), (18, -0.5), (20, -1), (25, -1)])
def test_overlong_is_equation_13(length: int, penalty: float):
    """L_max = 20 and L_cache = 4: nothing up to 16, then (16 − L) / 4, and −1 above 20."""
    assert Overlong(max_tokens=20, cache=4, factor=1.0)(length, truncated=False) == penalty
    assert Overlong(max_tokens=20, cache=4, factor=0.5)(length, truncated=True) == penalty / 2


def test_truncated_reads_how_a_response_ended():
    assert [Truncated(penalty=0.5)(9, cut) for cut in (True, False)] == [-0.5, 0.0]


def response(length: int, finish: Finish = Finish.EOS) -> Completion:
    return Completion((1,) * length, torch.zeros(length), torch.zeros(length), finish)


def test_the_advantage_sees_it_and_the_verdict_does_not():
    reward = reward_of(composed("rollout.max_tokens=20", "reward/length=overlong", "reward.length.cache=4"))
    group = JudgedGroup((response(18), response(20, Finish.LENGTH), response(3)), ("", "", ""), (RIGHT, WRONG, WRONG))
    [found] = reward.rewards_of([Prompt("a", (1,), "", "1")], [group], 0).groups
    assert [each.total for each in found] == [0.5, -2.0, -1.0]
    assert [dict(each.parts) for each in found][:2] == [{"verdict": 1, "length": -0.5}, {"verdict": -1, "length": -1}]
    assert [each.judgement for each in found] == [RIGHT, WRONG, WRONG]
    assert reward.again(WRONG, found[0]).total == -1.5


def test_evaluations_and_runs_without_it_have_the_scale_alone():
    plain = reward_of(composed())
    assert (
        plain
        == evaluation_reward(composed("reward/length=truncated"))
        != reward_of(composed("reward/length=truncated"))
    )
    assert plain.names == ()


def test_a_cache_longer_than_the_limit_is_refused():
    with pytest.raises(
        ConfigError, match=r"reward.length.cache=65: has to be from 1 to .*=64; type reward.length.cache=12"
    ):
        reward_of(composed("rollout.max_tokens=64", "reward/length=overlong", "reward.length.cache=65"))
