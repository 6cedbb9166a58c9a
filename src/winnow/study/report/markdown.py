"""Markdown tables to HTML, and the report as Markdown."""

import re
from collections.abc import Sequence

from winnow.study.claims import Verdict
from winnow.study.report import facts
from winnow.study.report.figure import Drawing
from winnow.study.report.html import Html, table, tag
from winnow.study.report.notes import AT_ITS_BEST, STATISTICS
from winnow.study.study import Study
from winnow.study.tables import claims_list, claims_table, figures_table, table_1, tuning_table
from winnow.study.tuning import Tuning


def to_html(markdown: str) -> Html:
    """A table as `winnow.study.tables` writes it: pipes within cells escaped, bold by two stars."""
    head, _, *rows = [_cells(line) for line in markdown.strip().splitlines()]
    figures = frozenset(i for i in range(1, len(head)) if all(_figure(row[i]) for row in rows))
    return table(head, [[_bold(cell) for cell in row] for row in rows], figures)


def page(
    study: Study, tuning: Tuning | None, verdicts: Sequence[Verdict], drawings: Sequence[Drawing], command: str
) -> str:
    """`report.md`, with the figures by their files."""
    parts = [f"# {facts.title(study)}", facts.scope(study)]
    if study.failed:
        parts.append(
            "## Failed jobs\n\n"
            + "\n".join(f"- {_code(job.overrides)}: {job.status}: {_code(job.reason)}" for job in study.failed)
        )
    if told := facts.warnings(study):
        parts.append("## Read with care\n\n" + "\n".join(f"- {line}" for line in told))
    if verdicts:
        parts.append(f"## The paper's claims\n\n{claims_list(verdicts)}\n\n{claims_table(verdicts)}")
    if tuning is not None:
        parts.append(f"## Each at its best\n\n{AT_ITS_BEST}\n\n{tuning_table(tuning)}")
    for drawing in drawings:
        parts.append(f"## {drawing.title}\n\n![{drawing.title}](figures/{drawing.name}.png)\n\n{drawing.caption}")
    if study.arms:
        parts.append("## Final figures\n\n" + figures_table(study))
    if verdicts:
        parts.append("## Table 1\n\n" + table_1(study if tuning is None else tuning.study))
    parts.append("## Statistics\n\n" + "\n".join(f"- {line}" for line in STATISTICS))
    parts.append("## Again\n\n```\n" + "\n".join([*facts.commands(study), command]) + "\n```")
    return "\n\n".join(parts) + "\n"


def _code(text: str) -> str:
    """What a job said may contain any character; a code span ends at a backtick."""
    return f"`{text.replace('`', chr(39))}`"


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _bold(cell: str) -> str:
    inside = re.fullmatch(r"\*\*(.+)\*\*", cell)
    return tag("b", inside[1]) if inside else cell


def _figure(cell: str) -> bool:
    return re.match(r"\[?[+−-]?[×\d]|–|$", cell) is not None
