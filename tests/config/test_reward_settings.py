"""Settings of `reward=function`: each way to name functions, and mistakes that are refused in one line."""

import sys
from pathlib import Path

import pytest

from running import composed
from winnow import signals
from winnow.assemble.rewards import evaluation_reward, prepare, reward_of
from winnow.columns import Columns
from winnow.config import checks
from winnow.data.problems import Problem
from winnow.errors import ConfigError
from winnow.rewards.reward_functions import RewardFunctions

HERE = Path(__file__).parents[1] / "rewards"
QUICK = ("logger=none", "hardware=cpu")


@pytest.fixture(autouse=True)
def their_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.delitem(sys.modules, "their_rewards", raising=False)


def source(*words: str) -> RewardFunctions:
    cfg = composed(
        "reward=function",
        "plugins=[their_rewards,wild_answers,imports_exit,imports_leave,imports_interrupt,imports_nothing]",
        *QUICK,
        *words,
    )
    checks.check_config(cfg)
    found = reward_of(cfg)
    assert isinstance(found, RewardFunctions)
    return found


@pytest.mark.parametrize(
    ("words", "names", "weights"),
    [
        ((), ["accuracy"], [1]),
        (("reward.functions=[their_rewards:reward_len,winnow.rewards:accuracy]",), ["reward_len", "accuracy"], [1, 1]),
        (
            ("reward.functions=[their_rewards:reward_len,winnow.rewards:accuracy]", "reward.weights=[0.2,1]"),
            ["reward_len", "accuracy"],
            [0.2, 1],
        ),
        (("reward.functions=[verl:their_rewards:compute_score]",), ["compute_score"], [1]),
        (("reward.functions=[{_target_:winnow.rewards.length_penalty,target:20}]",), ["length_penalty"], [1]),
        (("reward.functions=[{_target_:their_rewards.Counting,letter:a}]",), ["Counting"], [1]),
        (("reward.functions=[their_rewards:repetition]",), ["repetition"], [1]),
        (
            (
                "reward.functions={short:{_target_:winnow.rewards.length_penalty,target:20},right:'winnow.rewards:accuracy'}",
                "reward.weights={right:1,short:0.5}",
            ),
            ["short", "right"],
            [0.5, 1],
        ),
    ],
)
def test_functions_are_named_by_module_or_target(words: tuple[str, ...], names: list[str], weights: list[float]):
    found = source(*words)
    assert (found.names, list(found.weights)) == (names, weights)


MISTAKES = [
    ("reward.functions=[no_such:f]", r"no_such:f: not part of winnow; type plugins=\[no_such\]"),
    ("reward.functions=[their_rewards:reward_lem]", "has no reward_lem; did you mean their_rewards:reward_len"),
    ("reward.functions=[their_rewards.inner:f]", "their_rewards.inner:f: their_rewards has no inner"),
    ("reward.functions=[their_rewards:math]", "their_rewards:math: "),
    ("reward.functions=[their_rewards:reward_len,their_rewards:reward_len]", "two are named reward_len"),
    ("reward.functions=[]", r"reward.functions=\[\]: must be"),
    ("reward.functions=accuracy", "type reward.functions=\\[winnow.rewards:accuracy\\]"),
    ("reward.functions=[winnow.rewards.accuracy]", "type winnow.rewards:accuracy"),
    ("reward.functions=[3]", r"reward.functions=\[3\]"),
    ("reward.functions=[their_rewards:compute_score]", "type verl:their_rewards:compute_score"),
    ("reward.functions=[verl:their_rewards:reward_len_only]", "reward_len_only"),
    ("reward.functions=[their_rewards:make_repetition]", r"write f = make_repetition\(…\) in a file of your own"),
    ("reward.functions=[{_target_:winnow.rewards.length_penalty,taget:20}]", "did you mean .*target"),
    ("reward.functions=[wild_answers:starred]", "cannot be called by keyword; write completions in place of"),
    ("reward.functions=[wild_answers:Unbuilt]", r"type reward.functions=\[{_target_: wild_answers.Unbuilt, path: …}\]"),
    ("reward.functions=[{_target_:winnow.rewards.accuracy,_args_:[2]}]", "_args_: has no effect on a reward function"),
    ("reward.functions=[{_target_:winnow.rewards.accuracy,_partial_:true}]", "_partial_: has no effect"),
    ("reward.functions=[imports_exit:f]", "imports_exit:f: its import ended with SystemExit"),
    ("reward.functions=[imports_leave:f]", r"imports_leave:f: its import ended with os._exit\(9\)"),
    ("reward.functions=[imports_interrupt:f]", "imports_interrupt:f: its import ended with KeyboardInterrupt"),
    ("reward.functions=[imports_nothing:f]", "imports_nothing:f: .*no f here"),
    ("reward.functions={mean:'winnow.rewards:accuracy'}", "'mean' cannot name a reward"),
    ("reward.weights=[1,2]", r"reward.weights=\[1, 2\]: must be one number for each of accuracy"),
    ("reward.weights=[0]", "all are 0"),
    ("reward.weights=[a]", "must be finite numbers"),
    ("reward.weights={acuracy:1}", "must name accuracy"),
    ("reward.success={name:acuracy,at_least:1}", "did you mean accuracy"),
    ("reward.success={name:accuracy}", "must have a name and at_least"),
    ("reward.success={name:accuracy,at_least:high}", "at_least=high: must be a finite number"),
    ("reward.success=accuracy", "type reward.success={name: accuracy, at_least: 1}"),
    ("reward.timeout=0", "reward.timeout=0: must be"),
    ("reward.isolated=perhaps", "reward.isolated=perhaps: must be true or false"),
    ("algo=sft", "demonstrations have no reward"),
]
WITHOUT_ANSWERS = ("dataset=file", "dataset.path=rows.jsonl", "dataset.answer_field=null")


@pytest.mark.parametrize(("word", "said"), MISTAKES, ids=[word for word, _ in MISTAKES])
def test_a_mistake_is_refused_before_anything_is_loaded(word: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signals.signal, "getsignal", lambda number: signals._on_signal)  # as in a program
    with pytest.raises(ConfigError, match=said) as refused:
        source(word)
    assert "\n" not in str(refused.value)


def test_without_answers_something_else_has_to_say_what_a_success_is():
    for algo in ("raft", "reinforce_rej"):
        with pytest.raises(
            ConfigError, match=r"answer_field=null: .*; type reward\.success=\{name: accuracy, at_least: 1"
        ):
            source(*WITHOUT_ANSWERS, f"algo={algo}")
        source(*WITHOUT_ANSWERS, f"algo={algo}", "reward.success={name:accuracy,at_least:1}")
    source(*WITHOUT_ANSWERS, "algo=grpo")
    with pytest.raises(ConfigError, match="answer_field=null: without answers every verdict is the same; name the"):
        checks.check_config(composed(*WITHOUT_ANSWERS, "algo=grpo", *QUICK))
    checks.check_config(composed(*WITHOUT_ANSWERS, "algo=sft", *QUICK))


def test_a_module_of_somebody_elses_has_to_be_trusted():
    cfg = composed("reward=function", "reward.functions=[their_rewards:reward_len]", *QUICK)
    with pytest.raises(ConfigError, match=r"type plugins=\[their_rewards\] if you trust it"):
        checks.check_config(cfg)


def test_a_column_that_the_dataset_does_not_have_is_named_before_the_first_iteration():
    found = source("reward.functions=[their_rewards:reward_columns]")
    with pytest.raises(ConfigError, match="needs the column 'level'; the dataset has difficulty, and"):
        prepare(found, [Problem("1", "1+1", "2", columns=Columns({"difficulty": 1}))])
    prepare(found, [Problem("1", "1+1", "2", columns=Columns({"level": 1}))])
    found.close()
    misnamed = source("reward.functions=[their_rewards:reward_of_ids]")
    with pytest.raises(ConfigError, match=r"needs the column 'completions_ids'; .*; did you mean completion_ids\?"):
        prepare(misnamed, [Problem("1", "1+1", "2")])


def test_a_function_that_cannot_be_loaded_in_its_process_is_one_line():
    found = source("reward.functions=[{_target_:winnow.rewards.RewardModel,path:/no/such/folder}]")
    with pytest.raises(ConfigError, match="reward\\.functions: cannot be loaded in a process of its own") as refused:
        prepare(found, [Problem("1", "1+1", "2")])
    assert "\n" not in str(refused.value)


def test_evaluation_calls_the_function_that_says_what_a_success_is_and_no_other():
    words = ("reward=function", "reward.functions=[winnow.rewards:accuracy,their_rewards:reward_len]")
    plain = evaluation_reward(composed(*words, *QUICK))
    assert (plain.names, plain.success) == ((), None)
    rule = "reward.success={name:reward_len,at_least:-3}"
    judged = evaluation_reward(composed(*words, rule, *QUICK))
    assert list(judged.names) == ["reward_len"]
    function = {"reward": "reward_len", "function": "their_rewards:reward_len"}
    assert judged.success == {"name": "reward", **function, "at_least": -3.0}
    assert evaluation_reward(composed(*words, rule, "eval.sets=[math500]", *QUICK)).success is None
