"""Middles and spreads, and the file that the parts share."""

from pathlib import Path

import pytest

from benchmarks import latest
from benchmarks.figures import Named, Skipped, ratios, spread


def test_a_spread_is_the_median_between_least_and_greatest():
    assert spread("x", [3.0, 9.0, 4.0]) == {"x": 4.0, "x_low": 3.0, "x_high": 9.0}
    assert spread("x", [1.0, 2.0, 4.0, 9.0])["x"] == 3.0


def test_pairs_are_divided_before_anything_is_averaged():
    assert ratios([8.0, 2.0], [2.0, 4.0]) == [4.0, 0.5]
    with pytest.raises(ValueError, match="zip"):
        ratios([8.0], [2.0, 4.0])


NAMES = (Named("speed", "how fast"), Named("size", "how large"))


def test_a_part_replaces_its_own_figures_and_no_other():
    before = {
        "speed": 1.0,
        "speed_low": 0.5,
        "size_skipped": "no scales",
        "one_date": "then",
        "other": 3,
        "two_date": "then",
    }
    found = {"speed": 2.0, "one_date": "now"}
    assert latest.merged(before, "one", NAMES, found) == {
        "speed": 2.0,
        "one_date": "now",
        "other": 3,
        "two_date": "then",
    }


def test_a_part_that_is_skipped_says_why_and_takes_nothing_away():
    why = Skipped("nobody is here")
    assert latest.without({"other": 1}, "one", why) == {"other": 1, "one_skipped": "nobody is here"}
    assert latest.without({"speed": 1.0, "one_date": "then"}, "one", why) == {"speed": 1.0, "one_date": "then"}


def test_the_file_reads_back(tmp_path: Path):
    assert latest.read(tmp_path / "none") == {}
    latest.write(tmp_path / "new", {"b": 1.5, "a": "2 cores, größer"})
    assert latest.read(tmp_path / "new") == {"a": "2 cores, größer", "b": 1.5}
