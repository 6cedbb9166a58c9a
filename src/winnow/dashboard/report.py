"""The report: the same panels as a page with words, to be shared and commented on."""

from wandb_workspaces.reports.v2 import interface as wr

from winnow.dashboard.drawing import draw
from winnow.dashboard.panels import COLUMNS, GROUP_BY, SECTIONS

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
        blocks += [wr.H1(section.title), wr.P(section.about), wr.PanelGrid(runsets=[runs], panels=draw(section))]
    return wr.Report(entity=entity, project=project, title=TITLE, blocks=blocks, width="fluid")
