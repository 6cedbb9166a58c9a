"""`winnow report`: a study's page, its Markdown and its figures, beside its runs."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from winnow.study.claims import verdicts
from winnow.study.curves import Axis
from winnow.study.report import claim_cards, facts, markdown
from winnow.study.report.figures import drawings
from winnow.study.report.page import page
from winnow.study.report.render import save
from winnow.study.report.subject import Subject
from winnow.study.study import read
from winnow.study.tuning import tuned


def write_report(directories: Sequence[Path], out: Path | None, x: Axis) -> str:
    """Write `report.html`, `report.md` and `figures/` in `out`, or in the first directory; returns what to tell the user.

    Raises:
        ConfigError: as `winnow.study.study.read`.
    """
    study = read(directories)
    place = out or directories[0]
    tuning = tuned(study)
    claimed = study if tuning is None else tuning.study
    subject = Subject(study, x)
    drawn = list(drawings(subject))
    found = claim_cards.of_study(verdicts(claimed), claimed)
    options = [*(["--x", x] if x != "iterations" else []), *(["--out", str(out)] if out else [])]
    command = shlex.join(["winnow", "report", *map(str, directories), *options])
    (place / "figures").mkdir(parents=True, exist_ok=True)
    for drawing in drawn:
        save(drawing, place / "figures")
    html = page(subject, tuning, found, drawn, command)
    (place / "report.md").write_text(markdown.page(study, tuning, found, drawn, command), encoding="utf-8")
    (place / "report.html").write_text(html, encoding="utf-8")
    failed = [f"failed: {job.overrides or job.directory}: {job.reason}" for job in study.failed]
    told = [f"{verdict.outcome}: {verdict.claim.question} {verdict.claim.statement}" for verdict in found]
    return "\n".join([facts.scope(study), *failed, *told, str(place / "report.html")])
