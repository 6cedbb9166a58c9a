"""Panels as W&B draws them, in a workspace and in a report alike."""

from wandb_workspaces.reports.v2 import interface as wr

from winnow.dashboard.panels import CURVES, Lines, Panel, Points, Section, Table

WIDTH, HEIGHT, PANELS_A_ROW = 8, 6, 3
TABLE_HEIGHT = 16
"""A report's grid has 24 columns."""


def draw(section: Section) -> list[wr.PanelTypes]:
    """The section's panels, three a row."""
    return [_drawn(panel, _place(number, panel)) for number, panel in enumerate(section.panels)]


def _place(number: int, panel: Panel) -> wr.Layout:
    if isinstance(panel, Table):
        return wr.Layout(x=0, y=number // PANELS_A_ROW * HEIGHT, w=WIDTH * PANELS_A_ROW, h=TABLE_HEIGHT)
    row, column = divmod(number, PANELS_A_ROW)
    return wr.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)


def _drawn(panel: Panel, place: wr.Layout) -> wr.PanelTypes:
    match panel:
        case Lines():
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
        case Points():
            return wr.ScatterPlot(
                title=panel.title, x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(panel.y), layout=place
            )
        case Table():
            return wr.WeavePanelSummaryTable(table_name=panel.key, layout=place)
