"""A claim's effect as a line of its card: ours with its interval, the paper's below it."""

import math
from collections.abc import Collection, Sequence
from itertools import groupby

from winnow.study.claims import ClaimVerdict, Outcome, two_digits
from winnow.study.measures import Measure
from winnow.study.report.facts import with_bound_percent
from winnow.study.report.html import Html, join, tag
from winnow.study.statistics import Difference
from winnow.study.study import Study

WIDTH, HEIGHT = 340, 50
LEFT, RIGHT = 40.0, 180.0
"""Where the axis begins and ends; words stand at both sides."""
HERE, PAPER = 12.0, 29.0
"""Heights of the two rows."""
FIGURE_OF_CLAIMS = {
    "Table 1": "final_accuracy",
    "Figure 1": "figure1",
    "Figure 2": "figure2",
    "Figure 3": "figure3",
    "Figure 4": "figure4",
}
"""Where the claims of a table or figure can be seen."""


def effect_mark(verdict: ClaimVerdict, kind: str) -> Html:
    """On one scale; the grey band, where a claim is about one, is what was called no difference in advance. Nothing without
    an interval.

    `kind` is the CSS class of the outcome, whose colour ours takes.
    """
    claim, found = verdict.claim, verdict.difference
    if found is None:
        return Html("")
    measure = claim.measure
    low, mean, high, margin = (axis_place(measure, x) for x in (found.low, found.mean, found.high, claim.margin))
    paper = None if claim.paper_effect is None else axis_place(measure, claim.paper_effect)
    reach = 1.08 * max(abs(x) for x in (low, mean, high, margin, paper or 0.0))

    def at(x: float) -> float:
        return LEFT + (x + reach) / (2 * reach) * (RIGHT - LEFT)

    left = {"close": at(-margin), "no greater": at(-reach)}
    band = [left[claim.expects]] if claim.expects in left else []
    effect = "no figure" if claim.paper_effect is None else effect_value(measure, claim.paper_effect)
    parts = [
        *(tag("rect", x=_px(x), y="2", width=_px(at(margin) - x), height="34", fill="var(--grid)") for x in band),
        tag("path", d=f"M{at(0):.1f} 2V36", stroke="var(--muted)"),
        tag("path", d=f"M{at(low):.1f} {HERE}H{at(high):.1f}", stroke="currentColor", stroke_width="2.5"),
        tag("circle", cx=_px(at(mean)), cy=_px(HERE), r="4.5", fill="currentColor"),
        _svg_text(0, HERE, "here"),
        _svg_text(RIGHT + 10, HERE, effect_interval(measure, found)),
        _svg_text(at(0), 43.5, "×1" if measure.ratio else "0", "middle"),
        _svg_text(0, PAPER, "paper"),
        _svg_text(RIGHT + 10, PAPER, effect),
    ]
    if paper is not None:
        diamond = f"M{at(paper):.1f} {PAPER - 5.5}l5 5.5l-5 5.5l-5-5.5z"
        parts.append(tag("path", d=diamond, fill="none", stroke="var(--ink)", stroke_width="1.6"))
    label = f"here {effect_interval(measure, found)}, paper {effect}"
    return tag("svg", *parts, class_=f"mark {kind}", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def axis_place(measure: Measure, x: float) -> float:
    """On an axis where no difference is 0: of ratios the logarithm, so that half and twice are equally far from it."""
    return math.log(x) if measure.ratio else x


def effect_value(measure: Measure, x: float) -> str:
    """`−10.6`, in points; of a ratio `×0.25`."""
    return (f"×{two_digits(x)}" if measure.ratio else f"{x:+.1f}").replace("-", "−")


def effect_interval(measure: Measure, found: Difference) -> str:
    """`−10.6 (−11.4 to −9.8)`."""
    return f"{effect_value(measure, found.mean)} ({effect_value(measure, found.low)} to {effect_value(measure, found.high)})"


def _px(x: float) -> str:
    return f"{x:.1f}"


def _svg_text(x: float, middle: float, text: str, anchor: str = "start") -> Html:
    return tag("text", text, x=_px(x), y=_px(middle + 3.5), text_anchor=anchor, fill="var(--muted)", font_size="11")


CLASSES: dict[Outcome, str] = {
    "holds": "holds",
    "does not hold": "fails",
    "inside noise": "noise",
    "not measured": "none",
}
ORDER = ("Figure 2", "Table 1", "Figure 1", "Figure 3", "Figure 4")
"""Of tables and figures in the list: the question that is asked first comes first."""


MARKS = (
    "In the marks: dot and line, our effect with its 95 % interval; diamond, the paper's, of larger models on other data; grey, "
    "where a claim is of no difference or no gain, what was called that in advance. Late is the mean of the last quarter of "
    "iterations, early that of the first."
)


def verdicts_shown(verdicts: Sequence[ClaimVerdict], study: Study) -> list[ClaimVerdict]:
    """Verdicts on claims whose two arms are there, by table and figure in `ORDER`."""
    there = [v for v in verdicts if study.arm(v.claim.a) and study.arm(v.claim.b)]
    order = {family: place for place, family in enumerate(ORDER)}
    return sorted(there, key=lambda v: order.get(v.claim.family, len(order)))


def counted_outcomes(verdicts: Sequence[ClaimVerdict]) -> str:
    """`9 hold, 2 do not hold, 10 inside noise`."""
    words = {"holds": ("holds", "hold"), "does not hold": ("does not hold", "do not hold")}
    found = [(outcome, sum(v.outcome == outcome for v in verdicts)) for outcome in CLASSES]
    return ", ".join(f"{n} {words.get(outcome, (outcome, outcome))[n != 1]}" for outcome, n in found if n)


def claims_section(verdicts: Sequence[ClaimVerdict], figures: Collection[str]) -> Html:
    """The list, then the cards. `figures` are the names of those that the page shows."""
    groups = [(family, list(group)) for family, group in groupby(verdicts, key=lambda v: v.claim.family)]
    cards = [
        join(
            tag("h3", f"{family} of the paper"), tag("div", *(_claim_card(v, figures) for v in group), class_="claims")
        )
        for family, group in groups
    ]
    return join(
        tag("ul", *(_claim_line(v) for v in verdicts), class_="glance"),
        tag("p", with_bound_percent(MARKS), class_="lead"),
        *cards,
    )


def _claim_line(verdict: ClaimVerdict) -> Html:
    claim, found = verdict.claim, verdict.difference
    link = tag("a", claim.question, href=f"#claim-{claim.key}")
    effect = [" ", tag("b", effect_interval(claim.measure, found))] if found else []
    return tag("li", _badge(verdict.outcome), tag("span", link, " ", tag("small", claim.statement, *effect)))


def _badge(outcome: Outcome) -> Html:
    return tag("span", outcome, class_=f"badge {CLASSES[outcome]}")


def _claim_card(verdict: ClaimVerdict, figures: Collection[str]) -> Html:
    claim = verdict.claim
    figure = FIGURE_OF_CLAIMS.get(claim.family)
    seen = [" · ", tag("a", "see the figure", href=f"#{figure}")] if figure in figures else []
    return tag(
        "article",
        tag("h3", tag("span", claim.question), _badge(verdict.outcome)),
        tag("p", tag("b", "Claim: "), claim.statement),
        effect_mark(verdict, CLASSES[verdict.outcome]),
        tag("p", with_bound_percent(verdict.sentence)),
        tag("p", f"Paper ({claim.source}): {claim.paper}", *seen, class_="foot"),
        class_="claim",
        id=f"claim-{claim.key}",
    )
