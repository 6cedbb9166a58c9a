"""Each claim of the paper with its verdict: a line to find it by, and a card with the evidence."""

from collections.abc import Collection, Sequence
from itertools import groupby

from winnow.study.claims import Outcome, Verdict
from winnow.study.report.figures import OF_CLAIMS
from winnow.study.report.html import Html, join, tag
from winnow.study.report.mark import interval, mark
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


MARKS = (
    "In the marks: dot and line, our effect with its 95 % interval; diamond, the paper's, of larger models on other data; grey, "
    "where a claim is of no difference or no gain, what was called that in advance. Late is the mean of the last quarter of "
    "iterations, early that of the first."
)


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
    return join(
        tag("ul", *(_line(v) for v in verdicts), class_="glance"), tag("p", bound(MARKS), class_="lead"), *cards
    )


def _line(verdict: Verdict) -> Html:
    claim, found = verdict.claim, verdict.difference
    link = tag("a", claim.question, href=f"#claim-{claim.key}")
    effect = [" ", tag("b", interval(claim.measure, found))] if found else []
    return tag("li", _badge(verdict.outcome), tag("span", link, " ", tag("small", claim.statement, *effect)))


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
        mark(verdict, CLASSES[verdict.outcome]),
        tag("p", bound(verdict.sentence)),
        tag("p", f"Paper ({claim.source}): {claim.paper}", *seen, class_="foot"),
        class_="claim",
        id=f"claim-{claim.key}",
    )
