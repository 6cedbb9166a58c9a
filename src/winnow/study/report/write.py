"""Report of a study: `report.html` and `report.md`, rendered from the templates of this package, and `figures/`.

The template of `report.html` escapes all text, because a sampled response or the error of a job may contain markup.
"""

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import get_args

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from winnow.files import replace_text
from winnow.run_logs.plot_style import BAD, GOOD, GRID, INK, MUTED, PAPER
from winnow.study import packaged_yaml, tables
from winnow.study.claims import ClaimVerdict, Outcome, verdicts
from winnow.study.differences import differences, nothing_to_compare
from winnow.study.measures import Axis, format_signed
from winnow.study.report import facts
from winnow.study.report.forest import forest, waterfall
from winnow.study.report.learning_curves import (
    budgets,
    gradient_mass,
    named_rewards,
    overview,
    paper_figures,
    prompts_by_outcome,
)
from winnow.study.report.panels import SMALL, Drawing, FigureData, Style
from winnow.study.report.render import inline_svg, picture_uri, save_drawing
from winnow.study.report.samples import advantage_strength, excerpt, reward_in_words, sampled_arms
from winnow.study.report.target import FIGURES, PAGE, TEXT, Target, report_target
from winnow.study.report.trade_offs import accuracy_against_kl, pass_curves, sensitivity
from winnow.study.study import Study, read_study
from winnow.study.tuning import Tuning, tune
from winnow.visible_text import visible

FIGURE_KINDS = (
    sensitivity,
    waterfall,
    overview,
    named_rewards,
    budgets,
    accuracy_against_kl,
    pass_curves,
    prompts_by_outcome,
    gradient_mass,
)
"""Figures behind those of the paper, in the report's order."""
FAMILIES = ("Figure 2", "Table 1", "Figure 1", "Figure 3", "Figure 4")
"""Tables and figures in the order of the list of claims, which begins with the question whether clipping matters."""
PAGE_COLOURS = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--page", GOOD: "--good", BAD: "--bad"}
"""Variables of `style.css` for the colours of figures."""
AXIS_LEFT, AXIS_RIGHT = 40.0, 180.0
"""Ends of the axis in the drawing of a claim's effect, which has text on both sides."""


@dataclass(frozen=True, slots=True)
class Report:
    """Contents of a report.

    `claimed` is the study with each algorithm at its best if settings were tuned, otherwise the study itself.
    `differences` has the verdicts on the study's arms beside the baseline. `verdicts` are on those of the paper's
    claims whose two arms it has, in the order of `FAMILIES`. `command` is what the user typed. `alone` says whether the
    page has to do without files beside it.
    """

    study: Study
    tuning: Tuning | None
    claimed: Study
    differences: list[ClaimVerdict]
    verdicts: list[ClaimVerdict]
    styles: list[Style]
    drawings: list[Drawing]
    command: str
    alone: bool

    @property
    def families(self) -> list[tuple[str, list[ClaimVerdict]]]:
        return [(family, list(group)) for family, group in groupby(self.verdicts, key=lambda v: v.claim.family)]

    @property
    def has_table_1(self) -> bool:
        """Whether the study has the arms of a claim that the paper's Table 1 makes."""
        return any(verdict.claim.family == "Table 1" for verdict in self.verdicts)

    @property
    def outcome_counts(self) -> str:
        """`9 hold, 2 do not hold, 10 inside noise`."""
        plural = {"holds": "hold", "does not hold": "do not hold"}
        counts = [(outcome, sum(v.outcome == outcome for v in self.verdicts)) for outcome in get_args(Outcome)]
        return ", ".join(f"{n} {plural.get(outcome, outcome) if n > 1 else outcome}" for outcome, n in counts if n)

    @property
    def commands(self) -> str:
        return "\n".join([*facts.rerun_commands(self.study), self.command])

    @property
    def fence(self) -> str:
        """Backticks around the commands in Markdown: more than any override has in a row."""
        return "`" * max(3, 1 + max(map(len, re.findall("`+", self.commands)), default=0))

    @property
    def shared_settings(self) -> tables.Table:
        shared, _ = facts.split_settings(self.study)
        return tables.Table(["setting", "value"], list(shared.items()), align=False)

    @property
    def differing_settings(self) -> tables.Table:
        _, differing = facts.split_settings(self.study)
        rows = [
            [key, value, ", ".join(arms)] for key, by_value in differing.items() for value, arms in by_value.items()
        ]
        return tables.Table(["setting", "value", "arms"], rows, align=False)

    @property
    def places(self) -> list[tuple[Drawing, str]]:
        """Each figure with its place on a wide page: two of one panel each share a row, `half` of it each, and `one`
        that is left over has its caption beside it."""
        places: list[tuple[Drawing, str]] = []
        for single, group in groupby(self.drawings, key=lambda drawing: len(drawing.panels) == 1):
            drawings = list(group)
            paired = len(drawings) // 2 * 2 if single else 0
            places += [(drawing, "half") for drawing in drawings[:paired]]
            places += [(drawing, "one" if single else "") for drawing in drawings[paired:]]
        return places

    @property
    def css_variables(self) -> dict[str, str]:
        """CSS variables for the colours of figures, which differ between the light and the dark page."""
        page = {colour: f"var({name})" for colour, name in PAGE_COLOURS.items()}
        return page | {style.light: f"var(--arm{i})" for i, style in enumerate(self.styles)}


@dataclass(frozen=True, slots=True)
class EffectPositions:
    """Places on the axis of a claim's effect: our effect with its limits, no effect, the paper's effect, and the margin
    within which a claim of no difference or no gain holds."""

    low: float
    mean: float
    high: float
    zero: float
    paper: float | None
    band: tuple[float, float] | None
    right: float = AXIS_RIGHT


def effect_positions(verdict: ClaimVerdict) -> EffectPositions:
    """The places in the drawing of a measured claim. The scale of ratios is logarithmic: half and twice are equally far
    from no effect."""
    claim, difference = verdict.claim, verdict.difference
    assert difference is not None
    scale = math.log if claim.measure.ratio else float
    low, mean, high, margin = (scale(x) for x in (difference.low, difference.mean, difference.high, claim.margin))
    paper = None if claim.paper_effect is None else scale(claim.paper_effect)
    reach = 1.08 * max(abs(x) for x in (low, mean, high, margin, paper or 0.0))

    def place(x: float) -> float:
        return AXIS_LEFT + (x + reach) / (2 * reach) * (AXIS_RIGHT - AXIS_LEFT)

    band_start = {"close": -margin, "no greater": -reach}.get(claim.expects)
    return EffectPositions(
        low=place(low),
        mean=place(mean),
        high=place(high),
        zero=place(0),
        paper=None if paper is None else place(paper),
        band=None if band_start is None else (place(band_start), place(margin)),
    )


def write_report(directories: Sequence[Path], out: Path | None, x: Axis, alone: bool = False) -> str:
    """Write the report into `out` or else into the first directory, and return its summary for the terminal.

    A report is `report.html`, `report.md` and `figures/`. One that is to stand `alone` is a single page, which has its
    pictures within it.

    Raises:
        ConfigError: as for `winnow.study.study.read_study` and `report_target`. Nothing is written then.
    """
    target = report_target(directories, out, alone)
    return write_study(read_study(directories), target, out, x)


def write_study(study: Study, target: Target, out: Path | None, x: Axis) -> str:
    """Write the report of a `study` to the `target` that `out` named, as `write_report`."""
    alone = target.alone
    tuning = tune(study)
    claimed = study if tuning is None else tuning.study
    data = FigureData(study, x)
    drawings = list(all_drawings(data))
    options = [
        *(["--x", x] if x != "iterations" else []),
        *(["--out", str(out)] if out else []),
        *(["--self-contained"] if alone else []),
    ]
    command = shlex.join(["winnow", "report", *map(str, study.directories), *options])
    measured = [v for v in verdicts(claimed) if claimed.arm(v.claim.a) and claimed.arm(v.claim.b)]
    measured.sort(key=lambda v: FAMILIES.index(v.claim.family))
    compared = differences(study)
    report = Report(study, tuning, claimed, compared, measured, list(data.styles.values()), drawings, command, alone)
    texts = {name: rendered(name, report) for name in ([PAGE] if alone else [PAGE, TEXT])}
    target.directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace_text(target.page if name == PAGE else target.directory / name, text)
    if not alone:
        (target.directory / FIGURES).mkdir(exist_ok=True)
        for drawing in drawings:
            save_drawing(drawing, target.directory / FIGURES)
    failed = [
        f"{'failed' if job.has_ended else job.status}: {job.overrides or job.directory}: {job.reason}"
        for job in study.failed
    ]
    outcomes = [f"{verdict.outcome}: {verdict.claim.question} {verdict.claim.statement}" for verdict in measured]
    lines = [
        *facts.shortfalls(study),
        facts.study_scope(study),
        *facts.merged_arms(study),
        *failed,
        *([why] if (why := nothing_to_compare(study)) else []),
        *(verdict.sentence for verdict in compared),
        *outcomes,
        str(target.page),
    ]
    return visible("\n".join(lines))


def rendered(name: str, report: Report) -> str:
    """The text of `report.html` or `report.md`."""
    return visible(ENVIRONMENT.get_template(f"{name}.j2").render(report=report))


def all_drawings(data: FigureData) -> Iterator[Drawing]:
    """The figures for which the study has data, in the report's order."""
    if first := forest(data):
        yield first
    yield from paper_figures(data)
    yield from (drawing for kind in FIGURE_KINDS if (drawing := kind(data)))


def unbroken_percent(text: str) -> str:
    """The text with no-break spaces before per cent signs, so that no line begins with one."""
    return text.replace(" %", "\u00a0%")


def unbroken_intervals(text: str) -> str:
    """The text with no-break spaces inside brackets, so that a line may only break before an interval."""
    return re.sub(r"\[[^]]*\]|\([^)]*\)", lambda match: match.group().replace(" ", "\u00a0"), text)


def code_span(text: str) -> str:
    """Markdown code span of any text; backticks, which would end the span, become apostrophes."""
    return f"`{text.replace('`', chr(39))}`"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("winnow.study", "report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (
        facts.counted_noun,
        code_span,
        tables.markdown_text,
        excerpt,
        format_signed,
        unbroken_intervals,
        unbroken_percent,
    )
    functions = (
        *(
            facts.study_title,
            facts.study_scope,
            facts.shortfalls,
            facts.left_out,
            facts.warnings_of,
            facts.seeds_by_arm,
            facts.objectives,
        ),
        *(sampled_arms, inline_svg, picture_uri),
        *(tables.figures_table, tables.table_1, tables.tuning_table, tables.claims_table, tables.claims_list),
        *(tables.differences_table, tables.sentences_list, nothing_to_compare),
        *(effect_positions, advantage_strength, reward_in_words),
    )
    environment.filters |= {function.__name__: function for function in filters}
    environment.filters["px"] = "{:.1f}".format
    environment.globals |= {function.__name__: function for function in functions}
    environment.globals["SMALL"] = SMALL
    environment.globals["notes"] = packaged_yaml("report/notes.yaml")
    sheet = files("winnow.study.report").joinpath("style.css").read_text(encoding="utf-8")
    environment.globals["style_sheet"] = Markup(sheet)
    return environment


ENVIRONMENT = _environment()
"""Renders the templates of this package; text is escaped in those that end in `.html.j2`."""
