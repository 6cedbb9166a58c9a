import io
import math
import sys
from collections.abc import Callable

import pytest

from winnow.run_logs.console import RunConsole

FULL = {
    "iteration": 7,
    "train/reward/mean": -0.0625,
    "train/kl_ref": 0.01274,
    "train/entropy": 0.28123,
    "eval/heldout/acc": 0.7148,
    "eval/other/acc": 0.1,
    "perf/tokens_per_s": 8934.4,
}


def test_plain_lines_are_columns(capsys) -> None:
    with RunConsole(200, terminal=False) as console:
        console.say("32 prompts × 8 samples = 256 responses → 4 updates of 64")
        console.phase("sampling")
        console.iteration(FULL)
        console.iteration({"iteration": 12, "train/reward/mean": 1.0, "train/kl_ref": math.nan})
    assert capsys.readouterr().out == (
        "32 prompts × 8 samples = 256 responses → 4 updates of 64\n"
        "iteration   7/200  reward -0.062  kl  0.0127  entropy  0.281  held-out  71.5%  tokens/s   8,934\n"
        "iteration  12/200  reward +1.000  kl       -  entropy      -  held-out      -  tokens/s       -\n"
    )


def test_what_a_collector_draws_is_the_last_column_and_the_first_below_a_bar(capsys, monkeypatch) -> None:
    with RunConsole(200, terminal=False) as console:
        console.iteration(FULL | {"rollout/samples": 512.0})
    assert capsys.readouterr().out.endswith("tokens/s   8,934  drawn   512\n")
    monkeypatch.setenv("COLUMNS", "80")
    with RunConsole(200, terminal=True) as console:
        console.iteration(FULL | {"rollout/samples": 1024.0})
        console._bar.refresh()  # pyright: ignore[reportOptionalMemberAccess]
    assert "drawn 1,024  reward -0.062" in capsys.readouterr().out


def test_a_pipe_is_not_a_terminal_and_terminal_asks_stdout(monkeypatch) -> None:
    assert RunConsole(1).terminal is False

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert RunConsole(1).terminal is True


@pytest.fixture
def screen(monkeypatch, capsys) -> Callable[[], str]:
    """Returns the output sent so far to a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return lambda: capsys.readouterr().out


def test_the_bar_shows_phase_count_and_metrics_within_80_columns(screen: Callable[[], str]) -> None:
    with RunConsole(200, terminal=True) as console:
        console.phase("evaluating")
        console.iteration(FULL)
        console._bar.refresh()  # pyright: ignore[reportOptionalMemberAccess]
        lines = screen().replace("\r", "\n").split("\n")
    assert any("evaluating" in line and "7/200" in line for line in lines)
    assert "reward -0.062  kl  0.0127  entropy  0.281  held-out  71.5%  tokens/s   8,934" in lines


def test_the_bar_remembers_what_an_iteration_did_not_measure(screen: Callable[[], str]) -> None:
    with RunConsole(200, terminal=True) as console:
        console.iteration(FULL)
        console.iteration({"iteration": 8, "train/reward/mean": 0.5})
    text = screen()
    assert "reward +0.500  kl  0.0127  entropy  0.281  held-out  71.5%" in text
    assert "8/200" in text


def test_say_prints_a_line_as_it_is(screen: Callable[[], str]) -> None:
    long = "wandb sync " + "x" * 100
    with RunConsole(5, terminal=True) as console:
        console.say("[bold]outputs/a[1]")
        console.say(long)
    text = screen()
    assert "[bold]outputs/a[1]\n" in text
    assert long in text


def test_the_cursor_comes_back_after_an_error(screen: Callable[[], str]) -> None:
    def fail() -> None:
        with RunConsole(5, terminal=True):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    text = screen()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
