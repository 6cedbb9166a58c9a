"""W&B dashboard: a workspace and a report that show the panels of `dashboard.yaml`, and their publication.

wandb-workspaces is an optional extra (`dashboards`), so every function that needs it imports it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import wandb
import yaml

from winnow.errors import ConfigError
from winnow.run_logs.wandb_run import FAILURES, reason, service_killed_after, set_environment, why_not_online

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import interface as wr
    from wandb_workspaces.workspaces import Workspace

SAVE_SECONDS = 60.0
"""Limit on saving a report, which takes about twenty requests; WANDB_HTTP_TIMEOUT limits each of them."""
ITERATION = "iteration"
MAX_CURVES = 40
"""Limit on the groups that a panel shows; W&B's default of 10 would hide some of the thirteen arms."""
WIDTH, HEIGHT, TABLE_HEIGHT, PANELS_PER_ROW = 8, 6, 16, 3
"""Sizes of panels in a report's grid, which has 24 columns."""


@dataclass(frozen=True, slots=True)
class LinesPanel:
    """Panel of curves over `x`: of the named `metrics`, or of all metrics that match the RE2 `pattern`."""

    title: str
    metrics: Sequence[str] = ()
    pattern: str = ""
    x: str = ITERATION

    def draw(self, place: "wr.Layout") -> "wr.PanelTypes":
        from wandb_workspaces.reports.v2 import interface as wr

        return wr.LinePlot(
            title=self.title,
            x=self.x,
            y=list(self.metrics),
            metric_regex=self.pattern or None,
            groupby_aggfunc="mean",
            # Over the few seeds of a sweep "stderr" would not be an interval; the extremes claim to be nothing else.
            groupby_rangefunc="minmax",
            max_runs_to_show=MAX_CURVES,
            layout=place,
        )


@dataclass(frozen=True, slots=True)
class PointsPanel:
    """Panel with one point per run, `y` against `x`: the last value of a metric, or an entry of `summary.json`."""

    title: str
    x: str
    y: str

    def draw(self, place: "wr.Layout") -> "wr.PanelTypes":
        from wandb_workspaces.reports.v2 import interface as wr

        return wr.ScatterPlot(title=self.title, x=wr.SummaryMetric(self.x), y=wr.SummaryMetric(self.y), layout=place)


@dataclass(frozen=True, slots=True)
class TablePanel:
    """Panel with the newest table that each run logged under `key`, across the whole width."""

    key: str

    def draw(self, place: "wr.Layout") -> "wr.PanelTypes":
        from wandb_workspaces.reports.v2 import interface as wr

        whole_row = wr.Layout(x=0, y=place.y, w=WIDTH * PANELS_PER_ROW, h=TABLE_HEIGHT)
        return wr.WeavePanelSummaryTable(table_name=self.key, layout=whole_row)


PANEL_KINDS = {"lines": LinesPanel, "points": PointsPanel, "table": TablePanel}


@dataclass(frozen=True, slots=True)
class Section:
    """Titled group of panels."""

    title: str
    about: str
    panels: Sequence[LinesPanel | PointsPanel | TablePanel]

    def draw(self) -> "list[wr.PanelTypes]":
        """The panels as W&B draws them, three in a row."""
        from wandb_workspaces.reports.v2 import interface as wr

        places = (divmod(number, PANELS_PER_ROW) for number in range(len(self.panels)))
        layouts = (wr.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT) for row, column in places)
        return [panel.draw(layout) for panel, layout in zip(self.panels, layouts, strict=True)]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Contents of `dashboard.yaml`, which explains its entries."""

    name: str
    about: str
    group_by: Sequence[str]
    columns: Sequence[str]
    open_sections: int
    sections: Sequence[Section]

    def report(self, entity: str, project: str) -> "wr.Report":
        """The report as an object; its `save()` asks the server for the project."""
        from wandb_workspaces.reports.v2 import interface as wr

        blocks: list[wr.BlockTypes] = [wr.P(self.about), wr.TableOfContents()]
        for section in self.sections:
            runs = wr.Runset(
                entity=entity,
                project=project,
                name=self.name,
                groupby=list(self.group_by),
                pinned_columns=list(self.columns),
            )
            panels = wr.PanelGrid(runsets=[runs], panels=section.draw())
            blocks += [wr.H1(section.title), wr.P(section.about), panels]
        return wr.Report(entity=entity, project=project, title=self.name, blocks=blocks, width="fluid")

    def workspace(self, entity: str, project: str) -> "Workspace":
        """The workspace as an object; no server is asked before its `save()`."""
        from wandb_workspaces import expr
        from wandb_workspaces import workspaces as ws

        sections = [
            ws.Section(
                name=section.title,
                panels=section.draw(),
                is_open=number < self.open_sections,
                layout_settings=ws.SectionLayoutSettings(
                    columns=PANELS_PER_ROW, rows=-(-len(section.panels) // PANELS_PER_ROW)
                ),
                panel_settings=ws.SectionPanelSettings(x_axis=ITERATION),
            )
            for number, section in enumerate(self.sections)
        ]
        return ws.Workspace(
            entity=entity,
            project=project,
            name=self.name,
            sections=sections,
            settings=ws.WorkspaceSettings(x_axis=ITERATION, max_runs=MAX_CURVES),
            runset_settings=ws.RunsetSettings(
                groupby=[expr.BaseMetric.from_key(expr.groupby_str_to_key(name)) for name in self.group_by],
                pinned_columns=list(self.columns),
            ),
        )


def _read_dashboard() -> Dashboard:
    entries = yaml.safe_load(files("winnow.run_logs").joinpath("dashboard.yaml").read_text(encoding="utf-8"))
    sections = [
        Section(s["title"], s["about"], [PANEL_KINDS[kind](**p) for panel in s["panels"] for kind, p in panel.items()])
        for s in entries.pop("sections")
    ]
    return Dashboard(**entries, sections=sections)


DASHBOARD = _read_dashboard()


def publish_dashboard(project: str) -> Iterator[str]:
    """Save a new report and a new workspace, and yield a line with the address of each.

    Older ones stay as they are, since somebody may have edited them.

    Raises:
        ConfigError: `project` is not ENTITY/PROJECT or the server has no such project; wandb-workspaces is not
            installed; there is no API key; the server does not answer. What was saved by then has been yielded.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", project):
        raise ConfigError(f"{project}: not a project of W&B; type ENTITY/PROJECT, such as my-team/winnow")
    try:
        import wandb_workspaces  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "wandb_workspaces":
            raise
        raise ConfigError("winnow dashboard needs one more package: pip install 'winnow-rl[dashboards]'") from None
    _log_in()
    entity, name = project.split("/")
    # The report first: unlike the workspace, it verifies that the project exists before anything is saved.
    yield f"report: {_save_view('report', project, DASHBOARD.report(entity, name))}"
    yield f"workspace: {_save_view('workspace', project, DASHBOARD.workspace(entity, name))}"


def _log_in() -> None:
    set_environment()
    try:
        wandb.setup(wandb.Settings(silent=True, mode="online"))  # whatever WANDB_MODE says: it is meant for runs
    except FAILURES as error:
        raise ConfigError(f"nothing was saved to W&B: {reason(error)}") from None
    if problem := why_not_online():
        raise ConfigError(f"nothing was saved to W&B: {problem}")


def _save_view(kind: str, project: str, view: "wr.Report | Workspace") -> str:
    try:
        with service_killed_after(SAVE_SECONDS):
            view.save()
            return view.url
    except FAILURES as error:
        raise ConfigError(f"{project}: the {kind} was not saved ({reason(error)})") from None
