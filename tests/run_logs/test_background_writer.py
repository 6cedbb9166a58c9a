import threading

import pytest

from winnow.run_logs.background_writer import BackgroundWriter


def test_work_is_done_in_order_beside_the_caller() -> None:
    later, go, done = BackgroundWriter(), threading.Event(), []
    later.do(go.wait, 10)
    for number in range(3):
        later.do(done.append, number)
    assert done == []  # `do` returned before the work was done
    go.set()
    later.wait()
    assert done == [0, 1, 2]


def test_what_went_wrong_is_raised_once() -> None:
    later, go = BackgroundWriter(), threading.Event()

    def full() -> None:
        assert go.wait(10)
        raise OSError("no space left on device")

    later.do(full)
    done = []
    later.do(full)
    later.do(done.append, 1)
    go.set()
    with pytest.raises(OSError, match="no space left"):
        later.wait()
    assert done == [1]  # `wait` waited for the rest although one failed
    later.wait()
