"""HTML from functions: text is escaped unless a tag made it, so that a response can say anything and do nothing."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from winnow.study.claims import ClaimVerdict
from winnow.study.report import claim_cards, facts
from winnow.study.report.facts import AT_ITS_BEST, STATISTICS, counted_noun, with_bound_percent
from winnow.study.report.html import Html, join, table, tag
from winnow.study.report.panels import BAD, GOOD, GRID, INK, MUTED, PAPER, SMALL, Drawing, Style
from winnow.study.report.render import inline_svg
from winnow.study.report.samples import samples_section
from winnow.study.report.subject import StudyView
from winnow.study.runs import FailedJob
from winnow.study.study import Study
from winnow.study.tables import claims_list, claims_table, figures_table, table_1, tuning_table
from winnow.study.tuning import Tuning

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PAGE_COLOURS = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--page", GOOD: "--good", BAD: "--bad"}
"""The names that `style.css` gives to the colours of figures."""


def html_page(
    subject: StudyView,
    tuning: Tuning | None,
    verdicts: Sequence[ClaimVerdict],
    drawings: Sequence[Drawing],
    command: str,
) -> str:
    """`report.html`. `verdicts` are those of the study's own claims, after `tuning` where there was one; `command` is what was
    typed to make the report."""
    study = subject.study
    sections = [
        ("claims", "The paper's claims", _claims_html(verdicts, drawings, tuning)),
        ("figures", "Figures", _figures_html(subject, drawings)),
        ("tables", "Tables", _tables_html(study, tuning, verdicts)),
        ("samples", "Samples", _samples_html(study)),
        ("settings", "Settings", _settings_html(study, command)),
    ]
    shown = [(name, title, inside) for name, title, inside in sections if inside]
    links = (tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in shown)
    body = join(
        tag("header", tag("div", tag("h1", facts.study_title(study)), *_lead(study, verdicts), *_boxes(study))),
        tag("nav", tag("ul", *links), aria_label="Contents"),
        tag("main", *(tag("section", tag("h2", title), inside, id=name) for name, title, inside in shown)),
    )
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{facts.study_title(study)} · Winnow"),
        tag("style", Html(_style(subject.styles))),
    )
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def _lead(study: Study, verdicts: Sequence[ClaimVerdict]) -> list[Html]:
    lead = [tag("p", facts.study_scope(study), class_="lead")]
    if verdicts:
        lead.append(tag("p", f"Of the paper's claims: {claim_cards.counted_outcomes(verdicts)}.", class_="lead"))
    return lead


def _boxes(study: Study) -> list[Html]:
    boxes = []
    if study.failed:
        them = "it" if len(study.failed) == 1 else "them"
        head = f"{counted_noun(len(study.failed), 'job')} failed; what follows is without {them}"
        boxes.append(tag("div", tag("h2", head), tag("ul", *map(_failed, study.failed)), class_="box", role="alert"))
    if told := facts.warnings_of(study):
        boxes.append(
            tag("div", tag("h2", "Read with care"), tag("ul", *(tag("li", line) for line in told)), class_="box note")
        )
    return boxes


def _failed(job: FailedJob) -> Html:
    code = "" if job.exit_code is None else f", exit code {job.exit_code}"
    return tag("li", tag("code", job.overrides or job.directory.name), f" {job.status}{code}: {job.reason}")


def _claims_html(verdicts: Sequence[ClaimVerdict], drawings: Sequence[Drawing], tuning: Tuning | None) -> Html | None:
    if not verdicts:
        return None
    source = tag(
        "p",
        "“A Minimalist Approach to LLM Reasoning: from Rejection Sampling to Reinforce” (arXiv 2504.11343) reports single runs. "
        "Each of its claims, held against this study: in bold our effect, in points or as a ratio, and its 95\u00a0% interval.",
        class_="lead",
    )
    if tuning is not None:
        source = join(source, tag("p", AT_ITS_BEST, class_="lead"))
    return join(source, claim_cards.claims_section(verdicts, {drawing.name for drawing in drawings}))


def _figures_html(subject: StudyView, drawings: Sequence[Drawing]) -> Html | None:
    variables = {colour: f"var({name})" for colour, name in PAGE_COLOURS.items()}
    variables |= {style.light: f"var(--arm{i})" for i, style in enumerate(subject.styles.values())}
    return join(*(_figure_html(drawing, variables) for drawing in drawings)) if drawings else None


def _figure_html(drawing: Drawing, variables: Mapping[str, str]) -> Html:
    frames = {panel.frame for panel in drawing.panels}
    kind = "panels small" if frames == {SMALL} else f"panels of{drawing.columns}"
    panels = (inline_svg(panel, f"{drawing.name}-{i}", variables) for i, panel in enumerate(drawing.panels))
    files_of = (tag("a", ending.upper(), href=f"figures/{drawing.name}.{ending}") for ending in ("png", "svg"))
    return tag(
        "figure",
        tag("h3", drawing.title),
        tag("figcaption", with_bound_percent(drawing.caption), " ", tag("span", *_spaced(files_of), class_="files")),
        tag("div", *panels, class_=kind),
        id=drawing.name,
    )


def _spaced(parts) -> list[str]:
    return [part for one in parts for part in (one, " ")]


def _tables_html(study: Study, tuning: Tuning | None, verdicts: Sequence[ClaimVerdict]) -> Html | None:
    if not study.arms:
        return None
    best = [] if tuning is None else [tag("h3", "Each at its best"), tag("p", AT_ITS_BEST, class_="lead")]
    best += [] if tuning is None else [to_html(tuning_table(tuning))]
    parts = [
        *best,
        tag("h3", "Final figures"),
        tag("p", "Means over seeds [95 % interval]. Late: over the last quarter of iterations.", class_="lead"),
        to_html(figures_table(study)),
    ]
    if verdicts:
        parts += [
            tag("h3", "Table 1 of the paper, beside ours"),
            tag(
                "p",
                "The paper: average@16 of MATH500, Minerva Math and OlympiadBench, in per cent, single runs.",
                class_="lead",
            ),
            to_html(table_1(study if tuning is None else tuning.study)),
            tag("h3", "Claims"),
            to_html(claims_table(verdicts)),
        ]
    return join(*parts)


def _samples_html(study: Study) -> Html | None:
    inside = samples_section(study)
    lead = (
        "The first responses of the first, middle and last recorded iteration, in the order drawn, of one seed an arm. Blue: "
        "positive advantage, orange: negative, the stronger the larger beside its prompt's others. Long texts lack their middle."
    )
    return join(tag("p", lead, class_="lead"), inside) if inside else None


def _settings_html(study: Study, command: str) -> Html:
    shared, differing = facts.split_settings(study)
    parts = [
        tag("h3", "How the figures are made"),
        tag("ul", *(tag("li", with_bound_percent(line)) for line in STATISTICS)),
        tag("h3", "To run it again"),
        tag("pre", "\n".join([*facts.rerun_commands(study), command]), class_="command", tabindex="0"),
        tag("h3", "Seeds"),
        tag("ul", *(tag("li", line) for line in facts.seeds_by_arm(study))),
    ]
    if differing:
        heads = ["setting", *(arm.title for arm in study.arms)]
        parts += [
            tag("h3", "What differs between arms"),
            table(heads, [[key, *values] for key, values in differing.items()]),
        ]
    if shared:
        rows = [[key, value] for key, value in shared.items()]
        parts.append(
            tag(
                "details",
                tag("summary", f"What all runs share: {counted_noun(len(rows), 'setting')}"),
                table(["setting", "value"], rows),
            )
        )
    return join(*parts)


def _style(styles: Mapping[str, Style]) -> str:
    light = "".join(f"--arm{i}:{style.light};" for i, style in enumerate(styles.values()))
    dark = "".join(f"--arm{i}:{style.dark};" for i, style in enumerate(styles.values()))
    sheet = files("winnow.study.report").joinpath("style.css").read_text(encoding="utf-8")
    return f"{sheet}:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"


def to_html(markdown: str) -> Html:
    """A table as `winnow.study.tables` writes it: pipes within cells escaped, bold by two stars."""
    head, _, *rows = [_cells(line) for line in markdown.strip().splitlines()]
    figures = frozenset(i for i in range(1, len(head)) if all(_is_figure(row[i]) for row in rows))
    return table(head, [[_bold(cell) for cell in row] for row in rows], figures)


def markdown_page(
    study: Study, tuning: Tuning | None, verdicts: Sequence[ClaimVerdict], drawings: Sequence[Drawing], command: str
) -> str:
    """`report.md`, with the figures by their files."""
    parts = [f"# {facts.study_title(study)}", facts.study_scope(study)]
    if study.failed:
        parts.append(
            "## Failed jobs\n\n"
            + "\n".join(f"- {_code(job.overrides)}: {job.status}: {_code(job.reason)}" for job in study.failed)
        )
    if told := facts.warnings_of(study):
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
    parts.append("## Again\n\n```\n" + "\n".join([*facts.rerun_commands(study), command]) + "\n```")
    return "\n\n".join(parts) + "\n"


def _code(text: str) -> str:
    """What a job said may contain any character; a code span ends at a backtick."""
    return f"`{text.replace('`', chr(39))}`"


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _bold(cell: str) -> str:
    inside = re.fullmatch(r"\*\*(.+)\*\*", cell)
    return tag("b", inside[1]) if inside else cell


def _is_figure(cell: str) -> bool:
    return re.match(r"\[?[+−-]?[×\d]|–|$", cell) is not None
