"""Each algorithm's trajectory is the recorded one: loss, reward, KL and gradient norm of 20 iterations, to 1e-6."""

import re
from pathlib import Path

import pytest

from golden import trajectories
from golden.trajectories import (
    ALGORITHMS,
    ITERATIONS,
    Golden,
    changed,
    differences,
    read_golden,
    reason_of,
    write_golden,
)

CONSTRAINTS = Path(__file__).parent.parent.parent / "constraints.txt"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trajectory_is_the_recorded_one(algorithm: str, tmp_path: Path):
    golden = read_golden()
    if trajectories.torch_version() != golden.torch:
        pytest.skip(f"trajectories are those of torch {golden.torch}, and this is {trajectories.torch_version()}")
    found = trajectories.trajectory(algorithm, tmp_path / algorithm)
    assert list(differences(found, golden.trajectories[algorithm])) == []


def test_they_are_recorded_on_the_pinned_torch():
    """Otherwise the test above would be skipped wherever it runs."""
    [pinned] = re.findall(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    assert read_golden().torch == pinned


def test_every_algorithm_has_one_in_which_it_learns():
    golden = read_golden().trajectories
    assert set(golden) == set(ALGORITHMS)
    for name, rows in golden.items():
        assert len(rows) == ITERATIONS
        updated = [norm for *_, norm in rows if norm is not None and norm > 0]
        assert len(updated) >= 15, name
        rewards = [reward for _, reward, _, _ in rows if reward is not None]
        assert name == "sft" or len(set(rewards)) > 5, name


def test_a_difference_of_two_millionths_is_one():
    golden = ((1.0, 0.5, 0.0, None),)
    assert list(differences(((1 + 5e-7, 0.5, 1e-13, None),), golden)) == []
    assert len(list(differences(((1 + 2e-6, 0.5, 1e-9, None),), golden))) == 2
    assert len(list(differences(((1.0, None, 0.0, 0.0),), golden))) == 2
    assert len(list(differences((), golden))) == 1


def test_what_is_read_is_what_was_written(tmp_path: Path):
    golden = Golden("1.2.3", ("# recorded today",), {"a": ((0.1, None, 1e-300, -3.0),), "b": ((1 / 3,) * 4,)})
    write_golden(golden, tmp_path / "file.txt")
    assert read_golden(tmp_path / "file.txt") == golden


def test_recording_takes_a_reason():
    for nothing in ([], [""], [" ", "\n"]):
        with pytest.raises(SystemExit, match="REASON"):
            reason_of(nothing)
    assert reason_of(["the loss", "is divided by two"]) == "the loss is divided by two"


def test_only_what_differs_is_named_as_changed():
    golden = {"a": ((1.0,) * 4,), "b": ((2.0,) * 4,), "gone": ((3.0,) * 4,)}
    assert changed({"a": ((1.0,) * 4,), "b": ((2.1,) * 4,), "new": ((3.0,) * 4,)}, golden) == ["b", "gone", "new"]
    assert changed(golden, golden) == []
