"""Panels as W&B draws them, in a workspace and in a report alike."""

import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr
from wandb_workspaces.reports.v2 import interface as wr

from winnow.run_logs.dashboard_panels import (
    COLUMNS,
    CURVES,
    GROUP_BY,
    ITERATION,
    SECTIONS,
    DashboardPanel,
    LinesPanel,
    PointsPanel,
    Section,
    TablePanel,
)

WIDTH, HEIGHT, PANELS_A_ROW = 8, 6, 3
TABLE_HEIGHT = 16
"""A report's grid has 24 columns."""


def draw_section(section: Section) -> list[wr.PanelTypes]:
    """The section's panels, three a row."""
    return [_drawn(panel, _place(number, panel)) for number, panel in enumerate(section.panels)]


def _place(number: int, panel: DashboardPanel) -> wr.Layout:
    if isinstance(panel, TablePanel):
        return wr.Layout(x=0, y=number // PANELS_A_ROW * HEIGHT, w=WIDTH * PANELS_A_ROW, h=TABLE_HEIGHT)
    row, column = divmod(number, PANELS_A_ROW)
    return wr.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)


def _drawn(panel: DashboardPanel, place: wr.Layout) -> wr.PanelTypes:
    match panel:
        case LinesPanel():
            return wr.LinePlot(
                title=panel.title,
                x=panel.x,
                y=list(panel.metrics),
                metric_regex=panel.pattern or None,
                groupby_aggfunc="mean",
                # Not "stderr": over the few seeds that a sweep has it is no interval. The extremes are what they are.
                groupby_rangefunc="minmax",
                max_runs_to_show=CURVES,
                layout=place,
            )
        case PointsPanel():
            return wr.ScatterPlot(
                title=panel.title, x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(panel.y), layout=place
            )
        case TablePanel():
            return wr.WeavePanelSummaryTable(table_name=panel.key, layout=place)


TITLE = "Winnow"
ABOUT = (
    "Runs are grouped by sweep and by arm. A curve is the mean over an arm's runs; its band reaches from the smallest to "
    "the largest and is no confidence interval: `winnow report` has those, paired by seed, and a verdict for each claim."
)


def report(entity: str, project: str) -> wr.Report:
    """The report as an object; its `save()` asks the server for the project."""
    blocks: list[wr.BlockTypes] = [wr.P(ABOUT), wr.TableOfContents()]
    for section in SECTIONS:
        runs = wr.Runset(
            entity=entity, project=project, name=TITLE, groupby=list(GROUP_BY), pinned_columns=list(COLUMNS)
        )
        blocks += [
            wr.H1(section.title),
            wr.P(section.about),
            wr.PanelGrid(runsets=[runs], panels=draw_section(section)),
        ]
    return wr.Report(entity=entity, project=project, title=TITLE, blocks=blocks, width="fluid")


NAME = "Winnow"
OPEN = 3
"""The first sections, which are open at the start."""


def workspace(entity: str, project: str) -> ws.Workspace:
    """The workspace as an object; nothing is asked of a server before its `save()`."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[_section(section, is_open=number < OPEN) for number, section in enumerate(SECTIONS)],
        settings=ws.WorkspaceSettings(x_axis=ITERATION, max_runs=CURVES),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.BaseMetric.from_key(expr.groupby_str_to_key(name)) for name in GROUP_BY],
            pinned_columns=list(COLUMNS),
        ),
    )


def _section(section: Section, is_open: bool) -> ws.Section:
    return ws.Section(
        name=section.title,
        panels=draw_section(section),
        is_open=is_open,
        layout_settings=ws.SectionLayoutSettings(columns=PANELS_A_ROW, rows=-(-len(section.panels) // PANELS_A_ROW)),
        panel_settings=ws.SectionPanelSettings(x_axis=ITERATION),
    )
