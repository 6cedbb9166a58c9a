"""Worker processes whose answers fork, or write to the pipe that answers go through."""

import time

import pytest

from winnow.rewards.worker_pool import WROTE, Failure, WorkerPool


def pool(timeout: float = 5.0) -> WorkerPool:
    return WorkerPool(1, timeout, 512, "wild_answers:answer_of", {}, quiet=False)


def asked(*items: tuple[str, object]) -> list[object]:
    """The value of each item, or the reason why there is none."""
    workers = pool()
    try:
        return [reply.value if reply.failure is None else reply.reason for reply in workers.ask(items)]
    finally:
        workers.close()


@pytest.mark.parametrize("deed", ["fork", "fork and stay", "fork and raise"])
def test_a_forked_child_answers_nothing(deed: str) -> None:
    assert asked(("", 1), (deed, 2), ("", 3), (deed, 4)) == [1, 2, 3, 4]


@pytest.mark.parametrize("deed", ["garbage", "no line", "bytes", "forged", "forged with a token"])
def test_what_a_function_writes_to_the_pipe_is_not_believed(deed: str) -> None:
    assert asked(("", 1), (deed, 2), ("", 3)) == [1, WROTE, 3]


def test_whatever_a_function_raises_is_its_reason_and_the_process_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    deeds = [("exit", 1), ("interrupt", 2), ("unspoken", 3), ("half a pair", 4), ("", 10**5000), ("", 6)]
    digits = "ValueError: Exceeds the limit (4300 digits) for integer string conversion"
    answers = asked(*deeds)
    assert answers[:4] == ["SystemExit: 3", "KeyboardInterrupt", "Unspoken", "ValueError: a?"]
    assert str(answers[4]).startswith(digits)
    assert answers[5] == 6
    assert "Traceback" not in capfd.readouterr().err


def test_low_descriptors_do_not_lead_to_the_pipe() -> None:
    assert asked(("low", 2), ("", 3)) == [2, 3]


def test_a_line_after_the_last_answer_is_no_answer_to_the_next() -> None:
    workers = pool()
    try:
        assert [reply.value for reply in workers.ask([("later", 1)])] == [1]
        time.sleep(0.4)
        assert [(reply.value, reply.failure) for reply in workers.ask([("", 2)])] == [(2, None)]
        assert workers.ask([("garbage", 2)])[0].failure is Failure.CRASH
    finally:
        workers.close()
