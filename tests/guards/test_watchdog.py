"""Watchdog: the stacks of a phase that takes far longer than before are printed, once."""

import threading
import time
from pathlib import Path

from winnow.experience.metrics import Clock
from winnow.guards.watchdog import Watchdog


def printed(tmp_path: Path, clock: Clock, factor: float | None, seconds: float, phase: str = "update") -> str:
    """The output of a watchdog with a floor of 50 ms while `phase` takes so many seconds."""
    path = tmp_path / "stacks"
    with path.open("w") as file, Watchdog(clock, factor, 0.05, file), clock.of(phase):
        time.sleep(seconds)
    return path.read_text()


def test_a_late_phase_is_printed_once_with_its_stack(tmp_path: Path):
    clock = Clock()
    with clock.of("update"):
        time.sleep(0.001)
    found = printed(tmp_path, clock, 10, 1.0)
    assert found.count("watchdog: update has taken") == 1
    assert "in printed" in found  # the function that is late


def test_a_phase_of_its_usual_length_is_not_late(tmp_path: Path):
    clock = Clock()
    with clock.of("update"):
        time.sleep(0.1)
    assert printed(tmp_path, clock, 10, 0.2) == ""


def test_a_first_phase_has_more_time(tmp_path: Path):
    assert printed(tmp_path, Clock(), 10, 0.2, "start") == ""
    assert "watchdog: start" in printed(tmp_path, Clock(), 2, 1.0, "start")


def test_it_can_be_turned_off_and_leaves_no_thread(tmp_path: Path):
    before = threading.active_count()
    assert printed(tmp_path, Clock(), None, 0.2) == ""
    printed(tmp_path, Clock(), 10, 0.01)
    assert threading.active_count() == before
