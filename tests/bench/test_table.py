"""Figures as a table, and the command."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__, table
from benchmarks import __main__ as command
from benchmarks.figures import Named, Skipped
from benchmarks.parts import PARTS, Part


def test_cells():
    ratio = Named("ratio", "one by the other", "×", 1)
    assert table.cells(ratio, {"ratio": 4.04, "ratio_low": 3.0, "ratio_high": 5.26}) == ("4.0 ×", "3.0 to 5.3")
    assert table.cells(ratio, {"ratio": 1234.5}) == ("1,234.5 ×", "")
    assert table.cells(ratio, {"ratio_skipped": "no model"}) == ("no model", "")
    assert table.cells(ratio, {}) is None


def test_the_document_gets_what_was_measured_and_why_the_rest_was_not(tmp_path: Path):
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
    table.fill(document, figures)
    text = document.read_text()
    assert text.startswith("Before.\n<!-- bench -->\n| trl |")
    assert text.endswith("<!-- end -->\nAfter.\n")
    assert "| `trl_over_ours_ragged` | 4.25 × | 4.00 to 4.50 |" in text
    assert "`python -m benchmarks trl`; 2 cores; torch 1; today" in text
    assert "**cuda**: skipped. no device" in text
    assert "old" not in text
    table.fill(document, figures)
    assert document.read_text() == text


def part(why: Skipped | None) -> Part:
    return Part(
        "one",
        "Does one thing.",
        [Named("speed", "how fast", "m/s")],
        lambda: why,
        lambda: ({"speed": 3.0}, [{"run": 1}]),
    )


def test_a_part_leaves_its_figures_what_they_come_from_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(__main__, "PARTS", {"one": part(None)})
    monkeypatch.setattr(__main__, "parts", lambda pairs: {"one": part(None)})
    assert command.main(["one", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "latest.json").read_text())
    assert found["speed"] == 3.0
    assert "torch" in found["one_versions"]
    assert {"one_date", "one_command", "one_machine", "one_seconds"} < found.keys()
    assert json.loads((tmp_path / "raw" / "one.json").read_text()) == [{"run": 1}]
    assert "3.00 m/s" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    missing = part(Skipped("nothing to measure it with"))
    monkeypatch.setattr(__main__, "PARTS", {"one": missing})
    monkeypatch.setattr(__main__, "parts", lambda pairs: {"one": missing})
    assert command.main(["one", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().out == "one: skipped. nothing to measure it with\n"
    assert command.main(["--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "latest.json").read_text()) == {"one_skipped": "nothing to measure it with"}
    assert command.main(["two"]) == 2
    assert "two: no such part; there are one, and table alone" in capsys.readouterr().err


def test_the_parts_of_the_suite_say_what_they_do():
    assert list(PARTS) == ["trl", "kept", "matmul", "memory", "scaling", "verifiers", "startup", "cuda"]
    assert all(part.does.endswith(".") and len(part.figures) > 2 for part in PARTS.values())
