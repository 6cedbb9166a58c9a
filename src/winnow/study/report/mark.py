"""A claim's effect as a line of its card: ours with its interval, the paper's below it."""

import math

from winnow.study.claims import Verdict
from winnow.study.measures import Measure
from winnow.study.report.html import Html, tag
from winnow.study.sentences import figure
from winnow.study.statistics import Difference

WIDTH, HEIGHT = 340, 50
LEFT, RIGHT = 40.0, 180.0
"""Where the axis begins and ends; words stand at both sides."""
HERE, PAPER = 12.0, 29.0
"""Heights of the two rows."""


def mark(verdict: Verdict, kind: str) -> Html:
    """On one scale; the grey band, where a claim is about one, is what was called no difference in advance. Nothing without
    an interval.

    `kind` is the CSS class of the outcome, whose colour ours takes.
    """
    claim, found = verdict.claim, verdict.difference
    if found is None:
        return Html("")
    measure = claim.measure
    low, mean, high, margin = (place(measure, x) for x in (found.low, found.mean, found.high, claim.margin))
    paper = None if claim.paper_effect is None else place(measure, claim.paper_effect)
    reach = 1.08 * max(abs(x) for x in (low, mean, high, margin, paper or 0.0))

    def at(x: float) -> float:
        return LEFT + (x + reach) / (2 * reach) * (RIGHT - LEFT)

    left = {"close": at(-margin), "no greater": at(-reach)}
    band = [left[claim.expects]] if claim.expects in left else []
    effect = "no figure" if claim.paper_effect is None else value(measure, claim.paper_effect)
    parts = [
        *(tag("rect", x=_px(x), y="2", width=_px(at(margin) - x), height="34", fill="var(--grid)") for x in band),
        tag("path", d=f"M{at(0):.1f} 2V36", stroke="var(--muted)"),
        tag("path", d=f"M{at(low):.1f} {HERE}H{at(high):.1f}", stroke="currentColor", stroke_width="2.5"),
        tag("circle", cx=_px(at(mean)), cy=_px(HERE), r="4.5", fill="currentColor"),
        _text(0, HERE, "here"),
        _text(RIGHT + 10, HERE, interval(measure, found)),
        _text(at(0), 43.5, "×1" if measure.ratio else "0", "middle"),
        _text(0, PAPER, "paper"),
        _text(RIGHT + 10, PAPER, effect),
    ]
    if paper is not None:
        diamond = f"M{at(paper):.1f} {PAPER - 5.5}l5 5.5l-5 5.5l-5-5.5z"
        parts.append(tag("path", d=diamond, fill="none", stroke="var(--ink)", stroke_width="1.6"))
    label = f"here {interval(measure, found)}, paper {effect}"
    return tag("svg", *parts, class_=f"mark {kind}", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def place(measure: Measure, x: float) -> float:
    """On an axis where no difference is 0: of ratios the logarithm, so that half and twice are equally far from it."""
    return math.log(x) if measure.ratio else x


def value(measure: Measure, x: float) -> str:
    """`−10.6`, in points; of a ratio `×0.25`."""
    return (f"×{figure(x)}" if measure.ratio else f"{x:+.1f}").replace("-", "−")


def interval(measure: Measure, found: Difference) -> str:
    """`−10.6 (−11.4 to −9.8)`."""
    return f"{value(measure, found.mean)} ({value(measure, found.low)} to {value(measure, found.high)})"


def _px(x: float) -> str:
    return f"{x:.1f}"


def _text(x: float, middle: float, text: str, anchor: str = "start") -> Html:
    return tag("text", text, x=_px(x), y=_px(middle + 3.5), text_anchor=anchor, fill="var(--muted)", font_size="11")
