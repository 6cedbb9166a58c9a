"""Workspace and report as objects, without a server or a key."""

from itertools import combinations

import pytest
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from winnow.run_logs.dashboard import DASHBOARD


def drawn(panel) -> dict:
    """The panel as W&B receives it, without its id, which is random."""
    return panel._to_model().model_dump(by_alias=True, exclude_none=True, exclude={"id"})


@pytest.fixture(scope="module")
def space() -> ws.Workspace:
    return DASHBOARD.workspace("me", "winnow")


@pytest.fixture(scope="module")
def grids() -> list[wr.PanelGrid]:
    return [block for block in DASHBOARD.report("me", "winnow").blocks if isinstance(block, wr.PanelGrid)]


def test_workspace_and_report_show_the_same_panels_in_the_same_sections(space, grids) -> None:
    headings = [block.text for block in DASHBOARD.report("me", "winnow").blocks if isinstance(block, wr.H1)]
    assert headings == [section.name for section in space.sections] == [section.title for section in DASHBOARD.sections]
    for section, grid in zip(space.sections, grids, strict=True):
        assert [drawn(panel) for panel in section.panels] == [drawn(panel) for panel in grid.panels]


def test_a_panel_says_to_wandb_what_it_was_told(space) -> None:
    accuracy, by_tokens, *_, final = (drawn(panel)["config"] for panel in space.sections[0].panels)
    assert accuracy["chartTitle"] == "Held-out accuracy"
    assert (accuracy["xAxis"], by_tokens["xAxis"]) == ("iteration", "train/sampled_tokens_total")
    assert (accuracy["useMetricRegex"], accuracy["metricRegex"]) == (True, "^eval/[^/]+/acc$")
    assert (accuracy["groupAgg"], accuracy["groupArea"]) == ("mean", "minmax")
    assert (final["xAxis"], final["yAxis"]) == ("summary:train/kl_ref", "summary:eval_last")
    reward = drawn(space.sections[1].panels[0])["config"]
    assert (reward["metrics"], reward["xAxis"]) == (["train/reward/mean"], "iteration")
    assert "metricRegex" not in reward


def test_no_panel_lies_on_another_and_none_leaves_the_grid(grids) -> None:
    for grid in grids:
        places = [panel.layout for panel in grid.panels]
        assert all(place.x + place.w <= 24 for place in places)
        for a, b in combinations(places, 2):
            assert a.x + a.w <= b.x or b.x + b.w <= a.x or a.y + a.h <= b.y or b.y + b.h <= a.y
