import re
from dataclasses import fields
from pathlib import Path

from winnow.run_logs.curves import CURVE_PANELS
from winnow.run_logs.run_files import EvaluationCounts, SampleRecord, Summary

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
ROWS = [line.strip("|").split(" | ") for line in TEXT.splitlines() if line.startswith("| `")]


def test_every_metric_has_a_name_of_its_own_a_unit_and_a_meaning() -> None:
    names = [row[0] for row in ROWS]
    assert len(names) == len(set(names)) > 60
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in ROWS)


def test_what_the_reports_show_is_documented() -> None:
    documented = {row[0].strip(" `") for row in ROWS}
    names = {"eval/": "{set}", "train/reward/": "{function}"}
    shown = {panel.prefix + names.get(panel.prefix, "") + panel.suffix for panel in CURVE_PANELS}
    shown |= {panel.total for panel in CURVE_PANELS if panel.total}
    console = (Path(__file__).parents[2] / "src/winnow/run_logs/console.py").read_text(encoding="utf-8")
    shown |= set(re.findall(r'get\("([a-z_/]+)"\)', console))
    assert len(shown) >= 7  # the console's are found by their spelling
    assert shown <= documented


def test_every_field_of_samples_evaluations_and_summary_is_named() -> None:
    other = TEXT.split("## Other files")[1].split("## W&B")[0]
    named = set(re.findall(r"`([a-z_]+)`", other))
    assert {field.name for kind in (SampleRecord, Summary, EvaluationCounts) for field in fields(kind)} <= named
