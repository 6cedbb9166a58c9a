"""Reward functions: what they are given, what comes of what they return, and the rows that are lost when they fail."""

import time
from collections.abc import Sequence
from math import isnan

import pytest
import torch

from winnow import signals
from winnow.columns import Columns
from winnow.rewards.reward import JudgedGroup, Rewards
from winnow.rewards.reward_function import RewardFunction
from winnow.rewards.reward_functions import MOST_TIMEOUTS, Limits, RewardFunctions, Success
from winnow.types import Completion, Finish, Prompt, Rewarded
from winnow.verdict import Judgement, Verdict

LIMITS = Limits(workers=2, timeout=5.0, memory_mb=1024)
THEIRS = "their_rewards"


def prompts_of(groups: Sequence[Sequence[str]], chat: bool = False) -> list[Prompt]:
    turns = (("system", "be brief"), ("user", "seven"))
    return [
        Prompt(f"p{p}", (5, 6), "<q>", "7", Columns({"level": p + 1}), f"question {p}", turns if chat else ())
        for p in range(len(groups))
    ]


def judged(texts: Sequence[str], seed: int = 0) -> JudgedGroup:
    """A group of responses, each with one token a character; a 7 is correct."""
    completions = [
        Completion(tuple(range(len(t))), torch.zeros(len(t)), torch.zeros(len(t)), Finish.EOS) for t in texts
    ]
    verdicts = [Verdict.correct if t == "7" else Verdict.wrong for t in texts]
    seeds = range(seed, seed + len(texts))
    return JudgedGroup(tuple(completions), tuple(texts), tuple(Judgement(v, None) for v in verdicts), tuple(seeds))


def rewarded(
    names: Sequence[str],
    groups: Sequence[Sequence[str]],
    weights: Sequence[float] | None = None,
    limits: Limits | None = None,
    rule: Success | None = None,
    per_call: int | None = None,
    chat: bool = False,
) -> Rewards:
    functions = [named(name) for name in names]
    source = RewardFunctions(functions, weights or [1.0] * len(names), rule, limits, per_call, iterations=10)
    try:
        return source.rewards_of(
            prompts_of(groups, chat), [judged(group, 10 * p) for p, group in enumerate(groups)], iteration=4
        )
    finally:
        source.close()


def named(name: str) -> RewardFunction:
    module, _, function = name.removeprefix("verl:").rpartition(":")
    return RewardFunction(
        function, f"{module or THEIRS}:{function}", form="verl" if name.startswith("verl:") else "trl"
    )


def totals(found: Rewards) -> list[list[float]]:
    return [[each.total for each in group] for group in found.groups]


def lost(found: Rewards) -> dict[int, str]:
    flat = [each for group in found.groups for each in group]
    assert all(isnan(each.total) == (each.lost is not None) for each in flat)
    return {row: each.lost for row, each in enumerate(flat) if each.lost is not None}


@pytest.mark.parametrize("limits", [None, LIMITS], ids=["in this process", "isolated"])
def test_functions_in_trls_form(limits: Limits | None) -> None:
    groups = [["7", "12345"], ["abc", r"1+6=7;\boxed{7}"]]
    found = rewarded(
        ["reward_len", "reward_format", "reward_columns", "reward_async", "reward_schedule"], groups, limits=limits
    )
    parts = [[list(each.parts.values()) for each in group] for group in found.groups]
    # Lengths 1, 5, 3 and 15; a column `level` of 1 and 2; step 4 of 10 times the digits, of which "abc" has none.
    assert parts[0] == [[-19, 0, 1.01, 1, 0.4 * 1], [-15, 0, 0.05, 1, 0.4 * 5]]
    assert parts[1] == [[-17, 0, 0.03, 1, None], [-5, 1, 2.15, 1, pytest.approx(0.4 * 4)]]
    assert totals(found)[1] == [pytest.approx(-17 + 0.03 + 1), pytest.approx(-5 + 1 + 2.15 + 1 + 1.6)]
    assert [each.extra for group in found.groups for each in group] == [{"digits": n} for n in (1, 5, 0, 4)]
    assert found.logged == {"digits_mean": [2.5]}
    assert lost(found) == {}


def test_a_chat_has_its_messages_and_completions_are_messages() -> None:
    found = rewarded(["reward_chat"], [["six", "it is seven"]], chat=True)
    assert totals(found) == [[0.0, 1.0]]


def test_functions_in_verls_form() -> None:
    found = rewarded(["verl:compute_score", "verl:plain_score"], [["7", "8"]], weights=[2.0, 1.0])
    assert totals(found) == [[2 + 1.1, pytest.approx(-2 + 0.1)]]  # `extra_info` is the row's own columns: level 1
    assert found.groups[0][0].extra == {"acc": True, "source": ""}


def test_an_object_with_settings() -> None:
    counting = RewardFunction("counting", f"{THEIRS}:Counting", {"letter": "a"})
    source = RewardFunctions([counting], [0.5], None, None)
    assert totals(source.rewards_of(prompts_of([["banana"]]), [judged(["banana"])], 0)) == [[1.5]]


def test_none_is_left_out_of_the_sum_and_a_row_of_nothing_but_none_is_lost() -> None:
    found = rewarded(["never", "trivial"], [["1"]], weights=[5.0, 3.0])
    assert totals(found) == [[3.0]]
    assert found.groups[0][0].parts == {"never": None, "trivial": 1.0}
    assert lost(rewarded(["never"], [["1", "2"]])).keys() == {0, 1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hang", "hang: took more than 1.5 s"),
        ("fail", "fail: ZeroDivisionError: division by zero"),
        ("not_a_number", "not_a_number: returned nan"),
        ("too_few", "too_few: WrongReturn: returned 0 values for 1 completions"),
        ("four_gigabytes", "four_gigabytes: MemoryError"),
        ("die", "die: its process ended (exit code 3)"),
        ("words", "words: returned 'good'"),
    ],
)
def test_only_the_row_at_fault_is_lost(name: str, reason: str) -> None:
    groups = [["1", "2", "3"], ["4", "9", "5"], ["6", "7", "8"]]
    found = rewarded([name, "trivial"], groups, limits=Limits(2, 1.5, 1024))
    assert lost(found) == {4: reason}
    assert all(each.parts[name] is not None for row, each in enumerate(sum(found.groups, ())) if row != 4)


@pytest.mark.parametrize(
    ("name", "reason"), [("leave", "SystemExit: 3"), ("interrupt", "KeyboardInterrupt"), ("unspoken", "Unspoken")]
)
def test_what_is_raised_in_this_process_costs_the_row_alone(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals.signal, "getsignal", lambda number: signals._on_signal)  # as in a program
    assert lost(rewarded([f"wild_answers:{name}"], [["1", "9"], ["2"]])) == {1: f"{name}: {reason}"}


def test_a_real_interrupt_is_not_taken_for_a_functions_own() -> None:
    with pytest.raises(KeyboardInterrupt):  # Python's own handler is in place, which may have raised it
        rewarded(["wild_answers:interrupt"], [["9"]])


def test_logs_that_no_file_can_hold_are_mended() -> None:
    found = rewarded(["wild_answers:odd_logs"], [["1"]])
    assert found.groups[0][0].extra == {"a?": "b?", "many digits": "a whole number of 16,610 bits"}
    assert found.logged == {"c?": [1.0]}


@pytest.mark.parametrize("limits", [None, LIMITS], ids=["in this process", "isolated"])
def test_a_function_that_leaves_python_loses_its_row_alone(limits: Limits | None) -> None:
    found = lost(rewarded(["leave", "trivial"], [["1", "9"], ["2", "3"]], limits=limits))
    assert found == {1: "leave: SystemExit: enough"}


@pytest.mark.parametrize("limits", [None, LIMITS], ids=["in this process", "isolated"])
def test_what_a_function_changes_in_its_arguments_reaches_no_other(limits: Limits | None) -> None:
    found = rewarded(["rewrite", "reward_chat"], [["six", "it is seven"]], limits=limits, chat=True)
    assert totals(found) == [[1.0, 2.0]]


def test_a_function_that_always_hangs_is_given_up() -> None:
    began = time.monotonic()
    found = rewarded(["always_hang"], [["1", "2", "3", "4"]] * 8, limits=Limits(2, 0.2, 256))
    assert len(lost(found)) == 32
    # The call of all prompts, then prompts, never 32 rows; each ends its process, and the next has to start.
    assert time.monotonic() - began < 10 * 0.2 * (MOST_TIMEOUTS + 4)


def test_the_first_call_has_all_prompts_or_as_many_as_one_call_may_have() -> None:
    groups = [["1", "2"], ["3", "4"], ["5", "6"]]
    assert totals(rewarded(["batch_sizes"], groups)) == [[6, 6], [6, 6], [6, 6]]
    assert totals(rewarded(["batch_sizes"], groups, per_call=2)) == [[4, 4], [4, 4], [2, 2]]


def test_a_threshold_on_a_reward_takes_the_place_of_the_verdict() -> None:
    found = rewarded(["reward_len", "never"], [["7", "1234567890"]], rule=Success("reward_len", -15.0))
    assert [each.judgement.verdict for each in found.groups[0]] == [Verdict.wrong, Verdict.correct]
    by_none = rewarded(["never", "trivial"], [["7"]], rule=Success("never", 0.0))
    assert by_none.groups[0][0].judgement.verdict is Verdict.wrong
    by_lost = rewarded(["fail", "trivial"], [["9"]], rule=Success("fail", 0.0))
    assert by_lost.groups[0][0].judgement.verdict is Verdict.crash


def test_the_verdict_stays_the_verifiers_without_a_threshold() -> None:
    found = rewarded(["winnow.rewards:inverted_accuracy"], [["7", "8"]])
    assert totals(found) == [[0.0, 1.0]]
    assert [each.judgement.verdict for each in found.groups[0]] == [Verdict.correct, Verdict.wrong]


def test_the_reward_is_weighed_again_without_calling_the_functions() -> None:
    source = RewardFunctions([named("trivial"), named("reward_len")], [2.0, 0.1], Success("trivial", 1.0), None)
    before = Rewarded(0.0, Judgement(Verdict.wrong, None), {"trivial": 1.0, "reward_len": -5.0})
    again = source.again(Judgement(Verdict.wrong, None), before)
    assert (again.total, again.judgement.verdict) == (1.5, Verdict.correct)


def test_trivial_functions_take_no_time_to_speak_of() -> None:
    groups = [[f"{p} and {g}, " + "words " * 10 for g in range(16)] for p in range(256)]
    source = RewardFunctions([named("trivial")], [1.0], None, LIMITS)
    asked, responses = prompts_of(groups), [judged(group) for group in groups]
    source.rewards_of(asked[:1], responses[:1], 0)  # starts a worker
    began = time.perf_counter()
    source.rewards_of(asked, responses, 0)
    rate = 256 * 16 / (time.perf_counter() - began)
    source.close()
    print(f"{rate:,.0f} rows a second")
    assert rate > 2000  # a tenth of what a core gives
