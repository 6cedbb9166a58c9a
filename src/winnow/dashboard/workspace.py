"""The workspace: one's own view of a project, where runs are picked and compared."""

import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from winnow.dashboard.drawing import PANELS_A_ROW, draw
from winnow.dashboard.panels import COLUMNS, CURVES, GROUP_BY, ITERATION, SECTIONS, Section

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
        panels=draw(section),
        is_open=is_open,
        layout_settings=ws.SectionLayoutSettings(columns=PANELS_A_ROW, rows=-(-len(section.panels) // PANELS_A_ROW)),
        panel_settings=ws.SectionPanelSettings(x_axis=ITERATION),
    )
