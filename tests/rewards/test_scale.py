"""Reward scales and verifiers as the configuration defines them."""

import inspect
from pathlib import Path

import pytest
import yaml

from winnow.errors import ConfigError
from winnow.rewards.reward_scale import RewardScale
from winnow.rewards.verifier import Verifier
from winnow.verdict import Verdict

CONF = Path(__file__).parents[2] / "conf" / "reward"


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        ("plus_minus_one", (1.0, -1.0, -1.0, -1.0, -1.0)),
        ("zero_one", (1.0, 0.0, 0.0, 0.0, 0.0)),
        ("online_dpo", (1.0, -0.5, -1.0, -0.5, -0.5)),  # a timeout or a crash had a box: it counts as wrong
    ],
)
def test_what_each_verdict_is_worth(name: str, rewards: tuple[float, ...]) -> None:
    conf = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(conf) == ["defaults", "correct", "wrong", "no_answer"]
    assert conf["defaults"] == [{"verifier": "math_verify"}, {"length": "none"}, "_self_"]
    scale = RewardScale(conf["correct"], conf["wrong"], conf["no_answer"])
    order = (Verdict.correct, Verdict.wrong, Verdict.no_answer, Verdict.timeout, Verdict.crash)
    assert tuple(scale(verdict) for verdict in order) == rewards


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("math_verify", ["rule", "workers", "timeout"]),
        ("numeric", ["rule", "workers", "timeout"]),
        ("reasoning_gym", ["rule", "workers", "timeout"]),
        ("exact", ["rule"]),  # no worker, so nothing to set about workers
    ],
)
def test_a_verifier_is_given_what_it_takes(name: str, settings: list[str]) -> None:
    node = yaml.safe_load((CONF / "verifier" / f"{name}.yaml").read_text())
    assert node.pop("_target_") == f"{Verifier.__module__}.{Verifier.__name__}"
    assert list(node) == settings
    assert set(node) <= set(inspect.signature(Verifier).parameters)


@pytest.mark.parametrize(
    "values", [(0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, -1.0, 0.5), (float("nan"), 0.0, 0.0), (float("inf"), 0.0, 0.0)]
)
def test_a_scale_on_which_success_does_not_pay_is_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="reward"):
        RewardScale(*values)
