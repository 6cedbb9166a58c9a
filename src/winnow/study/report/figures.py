"""All figures of a report, in its order."""

from collections.abc import Iterator

from winnow.study.report.curves import budgets, overview, paper_figures, signal
from winnow.study.report.figure import Drawing
from winnow.study.report.forest import forest
from winnow.study.report.frontier import frontier
from winnow.study.report.pass_at_k import pass_curves
from winnow.study.report.prompts import prompts
from winnow.study.report.sensitivity import sensitivity
from winnow.study.report.subject import Subject
from winnow.study.report.waterfall import waterfall

OF_CLAIMS = {
    "Table 1": "final_accuracy",
    "Figure 1": "figure1",
    "Figure 2": "figure2",
    "Figure 3": "figure3",
    "Figure 4": "figure4",
}
"""Where the claims of a table or figure can be seen."""


def drawings(subject: Subject) -> Iterator[Drawing]:
    """Those for which the study has figures."""
    if first := forest(subject):
        yield first
    yield from paper_figures(subject)
    for drawing in (sensitivity, waterfall, overview, budgets, frontier, pass_curves, prompts, signal):
        if found := drawing(subject):
            yield found
