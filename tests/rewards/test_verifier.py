"""Verifier and its worker processes: verdicts, hostile answers, the cache, threads, signals and the end of
processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from winnow.errors import ConfigError
from winnow.rewards.rules import MathVerify
from winnow.rewards.verifier import Counts, Verifier
from winnow.verdict import Judgement, Verdict

# A check that does to its own process what the answer says. A correct answer ends in the gold.
CHECK = """
import os, signal, sys, time

def check(gold, answer):
    if answer == "sleep":
        time.sleep(60)
    if answer == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
        time.sleep(60)
    if answer == "compute":
        7 ** (10 ** 8)  # one instruction of C, minutes long
    if answer == "exit":
        os._exit(0)
    if answer == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if answer == "raise":
        raise ValueError(gold)
    if answer == "memory":
        bytearray(8 << 30)
    if answer == "shout":
        print("x" * 100_000)
        sys.stderr.write("x" * 100_000)
        os.write(1, b"correct 0.0\\n" * 100)
    if answer == "once" and not os.path.exists(gold):
        open(gold, "w").close()
        os._exit(0)
    if answer == "imports":
        return not {"torch", "numpy", "sympy", "hydra"} & set(sys.modules)
    return answer.endswith(gold) or answer == "once"
"""


class Obedient(MathVerify):
    check: ClassVar[str] = "obedient:check"


MakeVerifier = Callable[..., Verifier]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeVerifier:
    (tmp_path / "obedient.py").write_text(CHECK)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda **settings: Verifier(**{"timeout": 0.5, "rule": Obedient(), **settings})


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def verdicts(judged: list[Judgement]) -> list[Verdict]:
    return [judgement.verdict for judgement in judged]


def test_a_verdict_of_each_kind(verifier: Verifier) -> None:
    responses = [
        r"\boxed{\frac{2}{4}}",
        r"\boxed{\sqrt{2}}",
        "it is 1/2",
        r"\boxed{2^{-1}}",
        r"\boxed{1/2} or \boxed{1/3}",
    ]
    judged = verifier.judge(["1/2"] * 5, responses)
    assert verdicts(judged) == ["correct", "wrong", "no_answer", "correct", "wrong"]
    assert [judgement.answer for judgement in judged] == [r"\frac{2}{4}", r"\sqrt{2}", None, "2^{-1}", "1/3"]
    assert judged[0].seconds == 0.0  # two plain numbers
    assert judged[1].seconds > 0.0


@pytest.mark.parametrize("kind", ["sleep", "deaf", "compute", "exit", "segfault", "raise", "memory", "shout"])
def test_a_hostile_answer_is_classified(hostile: MakeVerifier, kind: str) -> None:
    expected = {"sleep": "timeout", "deaf": "timeout", "compute": "timeout", "shout": "wrong"}.get(kind, "crash")
    with hostile(workers=1, timeout=0.3) as verifier:
        assert verdicts(verifier.judge_answers(["g"], [kind])) == [expected]
        assert verdicts(verifier.judge_answers(["g", "g"], ["a g", "b h"])) == ["correct", "wrong"]


def test_neighbours_keep_their_verdicts(hostile: MakeVerifier) -> None:
    answers = [f"{index} g" if index % 2 else f"{index} h" for index in range(100)]
    bad = {3: "sleep", 20: "exit", 37: "deaf", 38: "segfault", 60: "compute", 99: "raise", 50: "memory"}
    answers = [bad.get(index, answer) for index, answer in enumerate(answers)]
    with hostile(workers=2, timeout=1.0) as verifier:
        judged = verdicts(verifier.judge_answers(["g"] * 100, answers))
    assert [judged[index] for index in sorted(bad)] == [
        "timeout",
        "crash",
        "timeout",
        "crash",
        "crash",
        "timeout",
        "crash",
    ]
    assert all(judged[i] == ("correct" if i % 2 else "wrong") for i in range(100) if i not in bad)


def test_an_answer_that_ended_a_used_process_gets_a_fresh_one(hostile: MakeVerifier, tmp_path: Path) -> None:
    with hostile(workers=1) as verifier:
        assert verdicts(verifier.judge_answers([str(tmp_path / "a"), "g"], ["once", "a g"])) == ["crash", "correct"]
        assert verdicts(verifier.judge_answers([str(tmp_path / "b"), "g"], ["once", "b g"])) == ["correct", "correct"]


@pytest.mark.parametrize("gold", ["8", r"\sqrt{2}"])
def test_hostile_mathematics(verifier: Verifier, gold: str) -> None:
    answers = [
        "9^{9^{9^9}}",
        "(10^8)!",
        r"\binom{10^9}{5*10^8}",
        "(1+x)^{100000}",
        "(" * 3000 + "8" + ")" * 3000,
        "8" * 2_000_000,
        r"\frac{" * 300 + "8" + "}{1}" * 300,
        "8" + "+0" * 900,
        "8^{1" + "0" * 300 + "}",
        r"\int_0^1 x^x dx" * 20,
    ]
    judged = verdicts(
        verifier.judge([gold] * 11, [f"\\boxed{{{answer}}}" for answer in answers] + [r"\boxed{" * 20_000])
    )
    assert judged[-1] is Verdict.no_answer
    assert all(verdict in ("wrong", "timeout", "crash") for verdict in judged[:-1])
    assert verdicts(verifier.judge(["3"], [r"\boxed{\sqrt{9}}"])) == ["correct"]


def test_numbers_need_no_worker() -> None:
    golds = [str(index % 97) for index in range(20_000)]
    responses = [f"9+8=17;\\boxed{{{index % 89}}}" for index in range(20_000)]
    with Verifier() as verifier:
        start = time.perf_counter()
        judged = verifier.judge(golds, responses)
        rate = len(golds) / (time.perf_counter() - start)
        assert verifier._pool.pids == []
        assert verifier.counts == Counts(settled=20_000)
    assert sum(verdict is Verdict.correct for verdict in verdicts(judged)) == sum(
        i % 97 == i % 89 for i in range(20_000)
    )
    print(f"{rate:,.0f} answers a second")


@pytest.mark.slow
def test_distinct_answers_through_the_isolated_workers() -> None:
    pairs = [
        (rf"{i}\sqrt{{{j}}}", rf"\sqrt{{{(i + k) ** 2 * j}}}")
        for i in range(2, 42)
        for j in (2, 3, 5, 7)
        for k in range(5)
    ]
    with Verifier(workers=2) as verifier:
        verifier.judge_answers(["x"] * 64, [f"x+{i}-y" for i in range(64)])  # starts both workers
        start = time.perf_counter()
        judged = verifier.judge_answers(*map(list, zip(*pairs, strict=True)))
        rate = len(pairs) / (time.perf_counter() - start)
        assert verifier.counts.isolated == 64 + len(pairs)
    assert sum(verdict is Verdict.correct for verdict in verdicts(judged)) == 160
    print(f"{rate:,.0f} answers a second")


def test_equal_pairs_are_asked_once_and_the_cache_is_bounded(hostile: MakeVerifier) -> None:
    with hostile(workers=1, cache_size=2) as verifier:
        judged = verifier.judge_answers(["g"] * 4, ["a g", "a g", "b g", "7"])
        assert [judgement.seconds > 0 for judgement in judged[:2]] == [True, False]
        assert verifier.counts == Counts(settled=0, cached=1, isolated=3)
        verifier.judge_answers(["g", "g", "g"], ["b g", "c g", "a g"])  # "a g" was the oldest of three
        assert verifier.counts == Counts(settled=0, cached=2, isolated=5)


def test_a_timeout_is_paid_for_once(hostile: MakeVerifier) -> None:
    with hostile(workers=1) as verifier:
        first, second = (verifier.judge_answers(["g"], ["sleep"])[0] for _ in range(2))
        assert (first.verdict, second.verdict) == ("timeout", "timeout")
        assert (first.seconds, second.seconds) == (0.5, 0.0)


def test_golds_that_cannot_be_parsed_are_named(verifier: Verifier) -> None:
    golds = ["5", r"\frac{1}{2}", "t(0,4]", r"64\%", "", "t(0,4]", r"\text{Evelyn}", "9^{9^{9^9}}"]
    assert verifier.check_golds(golds)[:3] == [2, 4, 5]
    assert verifier.check_golds(["1", "2.5", "1,000"]) == []


def test_any_thread_may_judge_and_several_may(hostile: MakeVerifier) -> None:
    found: dict[int, list[Verdict]] = {}
    with hostile(workers=2) as verifier:

        def ask(name: int) -> None:
            found[name] = verdicts(verifier.judge_answers(["g", "g"], [f"{name} g", f"{name} h"]))

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == {name: ["correct", "wrong"] for name in range(4)}


def test_workers_import_the_check_and_nothing_of_ours_that_is_heavy(hostile: MakeVerifier) -> None:
    with hostile(workers=1) as verifier:
        assert verdicts(verifier.judge_answers(["g"], ["imports"])) == ["correct"]


def test_close_leaves_no_process_and_the_pool_usable(hostile: MakeVerifier) -> None:
    verifier = hostile(workers=2)
    verifier.judge_answers(["g"] * 4, ["a g", "b g", "c g", "d g"])
    pids = verifier._pool.pids
    assert len(pids) == 2
    verifier.close()
    assert gone(pids, within=0)
    assert verdicts(verifier.judge_answers(["g"], ["e g"])) == ["correct"]
    verifier.close()
    verifier.close()


def test_close_does_not_wait_for_a_round_in_another_thread(hostile: MakeVerifier) -> None:
    """Each of the six answers hangs for 20 s, so that the round would take a minute."""
    verifier = hostile(workers=2, timeout=20)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            verifier.judge_answers([f"g{n}" for n in range(6)], ["sleep"] * 6)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not verifier._pool.pids:
        time.sleep(0.01)
    pids = verifier._pool.pids
    verifier.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "closed while they were asked" in str(errors[0])
    assert gone(pids, within=1)
    assert verdicts(verifier.judge_answers(["g"], ["e g"])) == ["correct"]
    verifier.close()


def test_a_worker_killed_between_rounds_costs_nothing(hostile: MakeVerifier) -> None:
    with hostile(workers=1) as verifier:
        verifier.judge_answers(["g"], ["a g"])
        os.kill(verifier._pool.pids[0], signal.SIGKILL)
        assert verdicts(verifier.judge_answers(["g"], ["b g"])) == ["correct"]


def test_an_interrupted_round_does_not_answer_the_next(hostile: MakeVerifier) -> None:
    with hostile(workers=1, timeout=20) as verifier:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            verifier.judge_answers(["g", "g"], ["a g", "sleep"])
        assert verifier._pool.pids == []
        assert verdicts(verifier.judge_answers(["g"], ["b h"])) == ["wrong"]


# Without `if __name__ == "__main__"`: multiprocessing would run this file again in every worker.
SCRIPT = """
import json, sys, threading
sys.path.insert(0, {path!r})
from winnow.rewards.verifier import Verifier
from winnow.rewards.rules import MathVerify
class Obedient(MathVerify):
    check = "obedient:check"
verifier = Verifier(workers=2, timeout={timeout}, rule=Obedient())
verifier.judge_answers(["g"] * 4, ["a g", "b g", "c g", "d g"])
print(json.dumps(verifier._pool.pids), flush=True)
{then}
"""
HANG = 'verifier.judge_answers(["g"] * 2, ["sleep", "compute"])'


def started(tmp_path: Path, timeout: float, then: str) -> tuple[subprocess.Popen[str], list[int]]:
    (tmp_path / "obedient.py").write_text(CHECK)
    (tmp_path / "script.py").write_text(SCRIPT.format(path=str(tmp_path), timeout=timeout, then=then))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("then", ["", "sys.exit(3)", "raise KeyError"])
def test_the_end_of_the_interpreter_ends_the_workers(tmp_path: Path, then: str) -> None:
    process, pids = started(tmp_path, 20, then)
    process.communicate(timeout=10)
    assert len(pids) == 2
    assert gone(pids, within=1)


def test_ctrl_c_in_a_round_ends_everything_at_once(tmp_path: Path) -> None:
    process, pids = started(tmp_path, 60, HANG)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in errors
    assert gone(pids, within=1)


def test_sigkill_of_the_parent_leaves_no_orphan_for_longer_than_a_question(tmp_path: Path) -> None:
    process, pids = started(tmp_path, 1, HANG)
    time.sleep(0.2)
    process.kill()
    process.communicate(timeout=10)
    assert gone(pids, within=3)


def test_a_check_that_cannot_be_imported_is_a_loud_failure(capfd: pytest.CaptureFixture[str]) -> None:
    class Absent(MathVerify):
        check: ClassVar[str] = "no_such_module:check"

    verifier = Verifier(rule=Absent())
    with pytest.raises(
        RuntimeError, match="before it was ready: ModuleNotFoundError: No module named 'no_such_module'"
    ):
        verifier.judge_answers(["g"], ["a g"])
    assert "Traceback" not in capfd.readouterr().err
    assert verifier._pool.pids == []


@pytest.mark.parametrize("settings", [{"workers": 0}, {"timeout": 0.0}, {"timeout": -1.0}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="verifier"):
        Verifier(**settings)  # pyright: ignore[reportArgumentType]


def test_golds_and_responses_must_pair_up() -> None:
    with pytest.raises(ValueError, match="zip"), Verifier() as verifier:
        verifier.judge(["1", "2"], [r"\boxed{1}"])
