import re
from pathlib import Path

from winnow.run_logs.curves import CURVE_PANELS
from winnow.run_logs.dashboard import DASHBOARD, LinesPanel, PointsPanel
from winnow.study.report.learning_curves import GRADIENT_MASS, HELD_OUT, OVERVIEW

LINES = [panel for section in DASHBOARD.sections for panel in section.panels if isinstance(panel, LinesPanel)]
ACCURACY = next(panel.pattern for panel in LINES if panel.title == "Held-out accuracy")
PASS_AT_K = next(panel.pattern for panel in LINES if panel.title == "pass@k")
METRICS = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"^\| `([^`]+)` \|", METRICS, re.MULTILINE))
MEASURED = {name.replace("{set}", "math500").replace("pass@k", "pass@16") for name in DOCUMENTED}


def shown(lines: LinesPanel) -> set[str]:
    return {name for name in MEASURED if name in lines.metrics or (lines.pattern and re.search(lines.pattern, name))}


def test_every_panel_shows_something_and_every_metric_in_it_is_documented() -> None:
    assert [panel.title for panel in LINES if not shown(panel)] == []
    named = {name for panel in LINES for name in (*panel.metrics, panel.x)}
    named |= {panel.x for section in DASHBOARD.sections for panel in section.panels if isinstance(panel, PointsPanel)}
    assert sorted(named - DOCUMENTED) == []


def test_patterns_take_all_sets_and_no_neighbours() -> None:
    names = ("eval/math500/acc", "eval/average/acc", "eval/math500/acc_low", "eval/math500/pass@16", "train/dpo/acc")
    assert [name for name in names if re.search(ACCURACY, name)] == ["eval/math500/acc", "eval/average/acc"]
    assert [name for name in names if re.search(PASS_AT_K, name)] == ["eval/math500/pass@16"]


def test_accuracy_is_drawn_against_every_budget() -> None:
    axes = [panel.x for panel in LINES if panel.pattern == ACCURACY]
    assert axes == ["iteration", "train/sampled_tokens_total", "train/tokens_trained_total", "time/total"]


def test_what_a_run_draws_of_itself_is_on_the_dashboard_under_the_same_title() -> None:
    titles = {panel.title: shown(panel) for panel in LINES}
    for panel in CURVE_PANELS:
        assert (panel.total or panel.prefix + ("math500" if panel.suffix else "") + panel.suffix) in titles[panel.title]


def test_what_the_report_draws_over_iterations_is_on_the_dashboard() -> None:
    named = {name for panel in LINES for name in panel.metrics}
    keys = {
        metric.key for metric in (*OVERVIEW, *GRADIENT_MASS) if metric is not HELD_OUT
    }  # its key stands for the accuracies of all sets
    assert len(keys) == 9
    assert keys <= named


def test_titles_tell_panels_apart() -> None:
    assert len({panel.title for panel in LINES}) == len(LINES) > 20
