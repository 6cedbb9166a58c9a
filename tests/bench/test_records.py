"""Figures, their file latest.json, their tables, and the command that makes them."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import records
from benchmarks.records import Named, Part, ratios, spread


def test_a_spread_is_the_median_with_least_and_greatest():
    assert spread("x", [3.0, 9.0, 4.0]) == {"x": 4.0, "x_low": 3.0, "x_high": 9.0}
    assert spread("x", [1.0, 2.0, 4.0, 9.0])["x"] == 3.0


def test_ratios_are_taken_pair_by_pair():
    assert ratios([8.0, 2.0], [2.0, 4.0]) == [4.0, 0.5]
    with pytest.raises(ValueError, match="zip"):
        ratios([8.0], [2.0, 4.0])


NAMES = (Named("speed", "how fast"), Named("size", "how large"))


def test_a_part_replaces_its_own_figures_only():
    before = {
        "speed": 1.0,
        "speed_low": 0.5,
        "size_skipped": "no scales",
        "one_date": "then",
        "other": 3,
        "two_date": "then",
    }
    found = {"speed": 2.0, "one_date": "now"}
    assert records.merged(before, "one", NAMES, found) == {
        "speed": 2.0,
        "one_date": "now",
        "other": 3,
        "two_date": "then",
    }


def test_a_skipped_part_gives_its_reason_and_removes_nothing():
    why = "nobody is here"
    assert records.without({"other": 1}, "one", why) == {"other": 1, "one_skipped": "nobody is here"}
    assert records.without({"speed": 1.0, "one_date": "then"}, "one", why) == {"speed": 1.0, "one_date": "then"}


def test_the_file_reads_back(tmp_path: Path):
    assert records.read(tmp_path / "none") == {}
    records.write(tmp_path / "new", {"b": 1.5, "a": "2 cores, größer"})
    assert records.read(tmp_path / "new") == {"a": "2 cores, größer", "b": 1.5}


def test_cells():
    ratio = Named("ratio", "one by the other", "×", 1)
    assert records.cells(ratio, {"ratio": 4.04, "ratio_low": 3.0, "ratio_high": 5.26}) == ("4.0 ×", "3.0 to 5.3")
    assert records.cells(ratio, {"ratio": 1234.5}) == ("1,234.5 ×", "")
    assert records.cells(ratio, {"ratio_skipped": "no model"}) == ("no model", "")
    assert records.cells(ratio, {}) is None


def test_the_document_gets_the_figures_and_the_reasons_of_skips(tmp_path: Path):
    document = tmp_path / "performance.md"
    document.write_text("Before.\n<!-- bench -->\nold\n<!-- end -->\nAfter.\n")
    figures = {
        "trl_over_ours_ragged": 4.25,
        "trl_over_ours_ragged_low": 4.0,
        "trl_over_ours_ragged_high": 4.5,
        "trl_command": "python -m benchmarks trl",
        "trl_machine": "2 cores",
        "trl_versions": "torch 1",
        "trl_date": "today",
        "cuda_skipped": "no device",
    }
    records.fill(document, list(command.PARTS.values()), figures)
    text = document.read_text()
    assert text.startswith("Before.\n<!-- bench -->\n| trl |")
    assert text.endswith("<!-- end -->\nAfter.\n")
    assert "| `trl_over_ours_ragged` | 4.25 × | 4.00 to 4.50 |" in text
    assert "`python -m benchmarks trl`; 2 cores; torch 1; today" in text
    assert "**cuda**: skipped. no device" in text
    assert "old" not in text
    records.fill(document, list(command.PARTS.values()), figures)
    assert document.read_text() == text


def part(why: str | None) -> Part:
    return Part(
        "one",
        "Does one thing.",
        [Named("speed", "how fast", "m/s")],
        lambda: ({"speed": 3.0}, [{"run": 1}]),
        lambda: why,
    )


def test_a_part_writes_figures_measurements_and_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "PARTS", {"one": part(None)})
    assert command.main(["one", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "latest.json").read_text())
    assert found["speed"] == 3.0
    assert "torch" in found["one_versions"]
    assert {"one_date", "one_command", "one_machine", "one_seconds"} < found.keys()
    assert json.loads((tmp_path / "raw" / "one.json").read_text()) == [{"run": 1}]
    assert "3.00 m/s" in capsys.readouterr().out


def test_a_part_that_cannot_be_measured_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    missing = part("nothing to measure it with")
    monkeypatch.setattr(command, "PARTS", {"one": missing})
    assert command.main(["one", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().out == "one: skipped. nothing to measure it with\n"
    assert command.main(["--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "latest.json").read_text()) == {"one_skipped": "nothing to measure it with"}
    assert command.main(["two"]) == 2
    assert "two: no such part; there are one, and table alone" in capsys.readouterr().err


def test_the_parts_are_described():
    assert list(command.PARTS) == ["trl", "kept", "matmul", "memory", "scaling", "verifiers", "startup", "cuda", "plan"]
    assert all(part.does.endswith(".") and len(part.figures) > 2 for part in command.PARTS.values())
