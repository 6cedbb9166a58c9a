"""The update check of runs in which some rewards are lost: it runs, honest advantages pass, and wrong ones do not."""

from pathlib import Path

import pytest
from torch import Tensor

from running import metrics, run
from winnow.algorithm import PolicyGradient
from winnow.errors import Diverged

FUNCTIONS = (
    "reward=function",
    "plugins=[their_rewards]",
    "reward.functions=[their_rewards:graded,their_rewards:fails_at_sevens]",
    "reward.isolated=false",
    "iterations=1",
    "eval.prompts=1",
)


@pytest.fixture(autouse=True)
def their_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "rewards")


@pytest.mark.parametrize(
    "words",
    [
        ("algo=reinforce", "algo/advantage=whitened"),
        ("algo=grpo", "algo/kl=k1", "algo.kl.place=reward", "algo.kl.coef=0.1"),
        ("algo=raft",),
    ],
    ids=["whitened", "penalty", "raft"],
)
def test_honest_advantages_pass(tmp_path: Path, words: tuple[str, ...]):
    run(tmp_path, *FUNCTIONS, *words)
    assert 0.1 < metrics(tmp_path)[-1]["train/reward/lost_frac"] < 0.9


def test_wrong_advantages_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    honest = PolicyGradient.advantages

    def wrong(algorithm: PolicyGradient, *given: Tensor) -> Tensor:
        return 1.05 * honest(algorithm, *given)

    monkeypatch.setattr(PolicyGradient, "advantages", wrong)
    with pytest.raises(Diverged, match=r"the update check found an error\. advantages"):
        run(tmp_path, *FUNCTIONS, "algo=grpo")
