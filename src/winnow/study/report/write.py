"""All figures of a report, in its order."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from winnow.study.claims import verdicts
from winnow.study.curves import Axis
from winnow.study.report import claim_cards, facts
from winnow.study.report.forest import forest, waterfall
from winnow.study.report.learning_curves import budgets, gradient_mass, overview, paper_figures, prompts_by_outcome
from winnow.study.report.page import html_page, markdown_page
from winnow.study.report.panels import Drawing
from winnow.study.report.render import save_drawing
from winnow.study.report.subject import StudyView
from winnow.study.report.trade_offs import accuracy_against_kl, pass_curves, sensitivity
from winnow.study.study import read_study
from winnow.study.tuning import tune


def all_drawings(subject: StudyView) -> Iterator[Drawing]:
    """Those for which the study has figures."""
    if first := forest(subject):
        yield first
    yield from paper_figures(subject)
    for drawing in (
        sensitivity,
        waterfall,
        overview,
        budgets,
        accuracy_against_kl,
        pass_curves,
        prompts_by_outcome,
        gradient_mass,
    ):
        if found := drawing(subject):
            yield found


def write_report(directories: Sequence[Path], out: Path | None, x: Axis) -> str:
    """Write `report.html`, `report.md` and `figures/` in `out`, or in the first directory; returns what to tell the user.

    Raises:
        ConfigError: as `winnow.study.study.read_study`.
    """
    study = read_study(directories)
    place = out or directories[0]
    tuning = tune(study)
    claimed = study if tuning is None else tuning.study
    subject = StudyView(study, x)
    drawn = list(all_drawings(subject))
    found = claim_cards.verdicts_shown(verdicts(claimed), claimed)
    options = [*(["--x", x] if x != "iterations" else []), *(["--out", str(out)] if out else [])]
    command = shlex.join(["winnow", "report", *map(str, directories), *options])
    (place / "figures").mkdir(parents=True, exist_ok=True)
    for drawing in drawn:
        save_drawing(drawing, place / "figures")
    html = html_page(subject, tuning, found, drawn, command)
    (place / "report.md").write_text(markdown_page(study, tuning, found, drawn, command), encoding="utf-8")
    (place / "report.html").write_text(html, encoding="utf-8")
    failed = [f"failed: {job.overrides or job.directory}: {job.reason}" for job in study.failed]
    told = [f"{verdict.outcome}: {verdict.claim.question} {verdict.claim.statement}" for verdict in found]
    return "\n".join([facts.study_scope(study), *failed, *told, str(place / "report.html")])
