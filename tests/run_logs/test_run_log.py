"""run.log: what the console said and libraries warned of, from before the run was accepted on, and no more."""

import logging
import warnings
from pathlib import Path

import pytest

from winnow.run_logs import run_log
from winnow.run_logs.console import RunConsole, print_line
from winnow.run_logs.run_log import RunLog


def lines(directory: Path) -> list[str]:
    """The lines without their times."""
    return [line.split(" ", 2)[2] for line in (directory / "run.log").read_text().splitlines()]


@pytest.mark.parametrize("passed_on", [True, False])
def test_lines_of_the_console_and_warnings_of_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed_on: bool
):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", passed_on)  # a setting of that library's
    with RunLog() as log:
        print_line("before\x1b")
        log.open(tmp_path)
        RunConsole(1, terminal=False).say("during")
        logging.getLogger("somelib.part").warning("low on %s", "memory")
        logging.getLogger("somelib.part").info("chatter")
        logging.getLogger("transformers").warning("tied weights")
        logging.getLogger("wandb").warning("has a log of its own")
        with pytest.warns(UserWarning, match="old"):
            warnings.warn("old", UserWarning, stacklevel=1)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            log._show("shown", UserWarning, "a.py", 3)
    print_line("after")
    assert lines(tmp_path) == [
        "before\\u001b",
        "during",
        "WARNING somelib.part: low on memory",
        "WARNING transformers: tied weights",
        "WARNING warnings: UserWarning: shown (a.py:3)",
    ]


def test_a_run_that_is_not_accepted_leaves_nothing(tmp_path: Path):
    with RunLog():
        print_line("said")
    assert list(tmp_path.iterdir()) == []


def test_the_error_that_ends_a_run_and_its_resume(tmp_path: Path):
    with pytest.raises(ValueError, match="nan"), RunLog() as log:  # noqa: PT012
        log.open(tmp_path)
        raise ValueError("nan")
    with RunLog() as log:
        log.open(tmp_path)
        print_line("again")
    assert lines(tmp_path) == ["ended by ValueError: nan", "again"]
    assert not logging.getLogger().handlers or log not in logging.getLogger().handlers


def test_its_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(run_log, "MOST_BYTES", 2000)
    with RunLog() as log:
        log.open(tmp_path)
        for number in range(500):
            print_line(f"line {number}")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"run.log", "run.log.1"}
    assert max(sizes.values()) <= 2000
    assert lines(tmp_path)[-1] == "line 499"


def test_a_disk_that_is_full_ends_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "run.log").symlink_to("/dev/full")
    with RunLog() as log:
        log.open(tmp_path)
        print_line("said")
    assert capfd.readouterr() == ("said\n", "")
