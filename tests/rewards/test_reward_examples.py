"""The examples of docs/rewards.md: its functions called, its commands and its file composed."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from running import composed
from winnow.assemble.rewards import reward_of
from winnow.config import checks
from winnow.rewards.reward_function import Form, RewardFunction, call

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    every = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for name, text in every if name == language]


@pytest.fixture(autouse=True)
def my_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text("\n\n".join(blocks("python")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)


def called(name: str, form: Form = "trl", **arguments: object) -> list[float | None]:
    function = RewardFunction(name, f"my_rewards:{name}", form=form)
    return list(call(function.load(), arguments, 2, function.accepts).values)


def test_the_functions_return_what_the_page_says():
    assert called("short", completions=["x" * 50, ""]) == [-0.5, 0.0]
    state = {"global_step": 5, "max_steps": 10}
    texts, golds = ["is 7", "is 8"], ["7", "7"]
    given = {"prompts": ["a", "b"], "level": [3, 3], "trainer_state": state}
    assert called("by_level", completions=texts, answer=golds, **given) == [2.5, 0.0]
    assert called("compute_score", "verl", completions=texts, answer=golds) == [1.0, -1.0]


@pytest.mark.parametrize("line", [line for block in (*blocks(""), *blocks("shell")) for line in block.splitlines()])
def test_the_commands_compose_to_a_reward(line: str):
    cfg = composed(*shlex.split(line)[2:], "logger=none", "hardware=cpu")
    checks.check_config(cfg)
    assert reward_of(cfg).names


def test_the_file_is_a_choice_of_reward(tmp_path: Path):
    (tmp_path / "conf" / "reward").mkdir(parents=True)
    (tmp_path / "conf" / "reward" / "mine.yaml").write_text(blocks("yaml")[0])
    words = ("reward=mine", "reward.functions.brief.target=60", "logger=none", "hardware=cpu")
    cfg = composed(*words, f"hydra.searchpath=[file://{tmp_path / 'conf'}]")
    checks.check_config(cfg)
    assert cfg.reward.functions.brief.target == 60
    assert list(reward_of(cfg).names) == ["right", "brief", "boxed"]


def test_the_table_names_every_built_in_function():
    import winnow.rewards

    rows = re.findall(r"^\| `(\w+)` \|", PAGE.split("## Built in")[1], re.MULTILINE)
    assert sorted(rows) == sorted(winnow.rewards.__all__)
