"""`winnow dashboard` with a local server."""

import sys

import pytest

from winnow.cli import exit_code
from winnow.run_logs import dashboard
from winnow.run_logs.dashboard import DASHBOARD

KEY = "0123456789" * 4
pytestmark = pytest.mark.alone


@pytest.fixture
def logged_in(view_server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", view_server.url)
    return view_server


def typed(capsys, project: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines on stdout, lines on stderr."""
    code = exit_code(["dashboard", project])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def test_a_report_and_a_workspace_are_saved_and_their_addresses_said(logged_in, capsys) -> None:
    code, out, err = typed(capsys, "me/winnow")
    assert (code, err) == (0, [])
    assert out[0] == f"report: {logged_in.url}/me/winnow/reports/Winnow--view1"
    assert out[1].startswith(f"workspace: {logged_in.url}/me/winnow?nw=")
    (kind, page), (view, space) = logged_in.views
    assert (kind, view) == ("runs", "project-view")
    grids = [block["metadata"] for block in page["blocks"] if block["type"] == "panel-grid"]
    assert [len(grid["panelBankSectionConfig"]["panels"]) for grid in grids] == [
        len(s.panels) for s in DASHBOARD.sections
    ]
    assert {grid["runSets"][0]["project"]["id"] for grid in grids} == {"17"}
    sections = space["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section.title for section in DASHBOARD.sections]


def test_runs_are_grouped_by_sweep_and_arm_in_both(logged_in, capsys) -> None:
    assert typed(capsys, "me/winnow")[0] == 0
    (_, page), (_, space) = logged_in.views
    runs = [block["metadata"]["runSets"][0] for block in page["blocks"] if block["type"] == "panel-grid"]
    groups = [{"section": "run", "name": "group"}, {"section": "config", "name": "arm.value"}]
    assert [each["grouping"] for each in [*runs, *space["section"]["runSets"]]] == [groups] * (
        len(DASHBOARD.sections) + 1
    )
    assert [each["runFeed"]["columnOrder"] for each in [*runs, *space["section"]["runSets"]]] == [
        list(DASHBOARD.columns)
    ] * 7


def test_wandb_mode_is_about_runs(logged_in, capsys, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert typed(capsys, "me/winnow")[0] == 0
    assert len(logged_in.views) == 2


def test_without_a_key_one_line_says_how_to_get_one(view_server, capsys, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", view_server.url)
    line = "error: nothing was saved to W&B: no API key; `wandb login` sets one"
    assert typed(capsys, "me/winnow") == (2, [], [line])
    assert view_server.asked == []


def test_without_the_extra_one_line_says_what_to_install(logged_in, capsys, monkeypatch) -> None:
    class Absent:
        def find_spec(self, name: str, path, target=None) -> None:
            if name == "wandb_workspaces":
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    line = "error: winnow dashboard needs one more package: pip install 'winnow-rl[dashboards]'"
    assert typed(capsys, "me/winnow") == (2, [], [line])


@pytest.mark.parametrize("project", ["winnow", "me/", "/winnow", "me/winnow/runs", "my team/winnow", ""])
def test_what_is_no_project_is_said_before_anything_else(capsys, project: str) -> None:
    line = f"error: {project}: not a project of W&B; type ENTITY/PROJECT, such as my-team/winnow"
    assert typed(capsys, project) == (2, [], [" ".join(line.split())])


def test_a_project_that_is_not_there_gets_nothing(logged_in, capsys) -> None:
    code, out, (line,) = typed(capsys, "me/other")
    assert (code, out, logged_in.views) == (2, [], [])
    assert line.startswith("error: me/other: the report was not saved (")
    assert "'me/other' not found" in line


def test_what_was_saved_before_a_failure_is_said(logged_in, capsys) -> None:
    logged_in.denied.add("UpsertView2")
    code, (saved,), (line,) = typed(capsys, "me/winnow")
    assert code == 2
    assert saved.startswith("report: ")
    assert line.startswith("error: me/winnow: the workspace was not saved (")
    assert "permission denied" in line


def test_a_server_that_falls_silent_is_given_up(logged_in, capsys, monkeypatch) -> None:
    monkeypatch.setattr(dashboard, "SAVE_SECONDS", 1.0)
    logged_in.silent.add("upsertView")
    code, out, (line,) = typed(capsys, "me/winnow")
    assert (code, out) == (2, [])
    assert line.startswith("error: me/winnow: the report was not saved (")


def test_a_server_that_is_not_there_is_one_line(capsys, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    code, out, (line,) = typed(capsys, "me/winnow")
    assert (code, out) == (2, [])
    assert line.startswith("error: nothing was saved to W&B: Failed to ")
