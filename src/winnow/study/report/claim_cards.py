"""Each claim of the paper with its verdict: a line to find it by, and a card with the evidence."""

import math
from collections.abc import Collection, Sequence
from itertools import groupby

from winnow.study.claims import Outcome, Verdict
from winnow.study.measures import Measure
from winnow.study.report.figures import OF_CLAIMS
from winnow.study.report.html import Html, join, tag
from winnow.study.report.words import bound
from winnow.study.study import Study

CLASSES: dict[Outcome, str] = {
    "holds": "holds",
    "does not hold": "fails",
    "inside noise": "noise",
    "not measured": "none",
}
ORDER = ("Figure 2", "Table 1", "Figure 1", "Figure 3", "Figure 4")
"""Of tables and figures in the list: the question that is asked first comes first."""
MARK_LEFT, MARK_RIGHT, MARK_WIDTH = 40.0, 180.0, 340


def of_study(verdicts: Sequence[Verdict], study: Study) -> list[Verdict]:
    """Verdicts on claims whose two arms are there, by table and figure in `ORDER`."""
    there = [v for v in verdicts if study.arm(v.claim.a) and study.arm(v.claim.b)]
    order = {family: place for place, family in enumerate(ORDER)}
    return sorted(there, key=lambda v: order.get(v.claim.family, len(order)))


def counted(verdicts: Sequence[Verdict]) -> str:
    """`9 hold, 2 do not hold, 10 inside noise`."""
    words = {"holds": ("holds", "hold"), "does not hold": ("does not hold", "do not hold")}
    found = [(outcome, sum(v.outcome == outcome for v in verdicts)) for outcome in CLASSES]
    return ", ".join(f"{n} {words.get(outcome, (outcome, outcome))[n != 1]}" for outcome, n in found if n)


def section(verdicts: Sequence[Verdict], figures: Collection[str]) -> Html:
    """The list, then the cards. `figures` are the names of those that the page shows."""
    groups = [(family, list(group)) for family, group in groupby(verdicts, key=lambda v: v.claim.family)]
    cards = [
        join(tag("h3", f"{family} of the paper"), tag("div", *(_card(v, figures) for v in group), class_="claims"))
        for family, group in groups
    ]
    return join(tag("ul", *(_line(v) for v in verdicts), class_="glance"), *cards)


def _line(verdict: Verdict) -> Html:
    claim = verdict.claim
    link = tag("a", claim.question, href=f"#claim-{claim.key}")
    return tag("li", _badge(verdict.outcome), tag("span", link, " ", tag("small", claim.statement)))


def _badge(outcome: Outcome) -> Html:
    return tag("span", outcome, class_=f"badge {CLASSES[outcome]}")


def _card(verdict: Verdict, figures: Collection[str]) -> Html:
    claim = verdict.claim
    figure = OF_CLAIMS.get(claim.family)
    seen = [" · ", tag("a", "see the figure", href=f"#{figure}")] if figure in figures else []
    return tag(
        "article",
        tag("h3", tag("span", claim.question), _badge(verdict.outcome)),
        tag("p", tag("b", "Claim: "), claim.statement),
        mark(verdict),
        tag("p", bound(verdict.sentence)),
        tag("p", f"Paper ({claim.source}): {claim.paper}", *seen, class_="foot"),
        class_="claim",
        id=f"claim-{claim.key}",
    )


def mark(verdict: Verdict) -> Html:
    """Our interval above the paper's effect, on one scale; the grey band is what was called no difference in advance."""
    claim, found = verdict.claim, verdict.difference
    if found is None:
        return Html("")
    measure = claim.measure
    ours = [_place(measure, x) for x in (found.low, found.mean, found.high)]
    paper = [] if claim.paper_effect is None else [_place(measure, claim.paper_effect)]
    margin = _place(measure, claim.margin)
    reach = 1.08 * max(abs(x) for x in [*ours, *paper, margin])

    def at(x: float) -> float:
        return MARK_LEFT + (x + reach) / (2 * reach) * (MARK_RIGHT - MARK_LEFT)

    kind = CLASSES[verdict.outcome]
    parts = [
        _rect(at(-margin), 2, at(margin) - at(-margin), 34, "var(--grid)"),
        _line_svg(at(0), 2, at(0), 36, "var(--muted)", 1),
        _line_svg(at(ours[0]), 12, at(ours[2]), 12, "currentColor", 2.5),
        f'<circle cx="{at(ours[1]):.1f}" cy="12" r="4.5" fill="currentColor"/>',
        _text(0, 15.5, "here"),
        _text(
            MARK_RIGHT + 10,
            15.5,
            f"{_value(measure, found.mean)} ({_value(measure, found.low)} to {_value(measure, found.high)})",
        ),
        _text(at(0), 47, "×1" if measure.ratio else "0", "middle"),
        _text(0, 32.5, "paper"),
        _text(
            MARK_RIGHT + 10,
            32.5,
            _value(measure, claim.paper_effect) if claim.paper_effect is not None else "no figure",
        ),
    ]
    for x in paper:
        parts.append(
            f'<path d="M{at(x):.1f} 23.5l5 5.5l-5 5.5l-5-5.5z" fill="none" stroke="var(--ink)" stroke-width="1.6"/>'
        )
    label = f"here {_value(measure, found.mean)}, 95 % {_value(measure, found.low)} to {_value(measure, found.high)}"
    inside = "".join(parts)
    return Html(
        f'<svg class="mark {kind}" viewBox="0 0 {MARK_WIDTH} 50" role="img" aria-label="{label}" font-size="11">{inside}</svg>'
    )


def _place(measure: Measure, value: float) -> float:
    """On an axis where no difference is 0: of ratios the logarithm, so that half and twice are equally far from it."""
    return math.log(value) if measure.ratio else value


def _value(measure: Measure, value: float) -> str:
    return (f"×{value:.2g}" if measure.ratio else f"{value:+.1f}").replace("-", "−")


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{fill}"/>'


def _line_svg(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float) -> str:
    return f'<path d="M{x1:.1f} {y1}L{x2:.1f} {y2}" stroke="{stroke}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="var(--muted)">{text}</text>'
