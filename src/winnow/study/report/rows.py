"""Panels of labelled rows: a name at the left, a mark with its interval, and what it says in figures at the right."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from winnow.study.report.axes import SIZE
from winnow.study.report.palette import INK, MUTED, PAPER


@dataclass(frozen=True, slots=True)
class Row:
    """A mean with its 95 % limits, None where there are none; `dots` are single seeds; `start` is where a bar to it begins."""

    name: str
    colour: str
    mean: float
    limits: tuple[float, float] | None
    words: str
    dots: Sequence[float] = ()
    start: float | None = None


def draw(axes: Axes, rows: Sequence[Row], unit: str, zero: bool = False) -> None:
    """`unit` names the axis; with `zero`, for differences, there is a line at 0."""
    for height, row in enumerate(rows):
        _draw(axes, row, height)
        axes.text(-6 / _width(axes), height, row.name, transform=axes.get_yaxis_transform(), ha="right", **_text(INK))
        axes.text(
            1 + 8 / _width(axes), height, row.words, transform=axes.get_yaxis_transform(), ha="left", **_text(MUTED)
        )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlim(*_limits(rows, zero))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_xlabel(unit, fontsize=SIZE, color=MUTED, labelpad=2, parse_math=False)
    if zero:
        axes.axvline(0, color=MUTED, linewidth=1)


def _draw(axes: Axes, row: Row, height: int) -> None:
    if row.start is not None:
        axes.barh(height, row.mean - row.start, left=row.start, height=0.5, color=row.colour, alpha=0.3, linewidth=0)
    for dot in row.dots if len(row.dots) > 1 else ():
        axes.plot([dot], [height + 0.24], color=row.colour, marker="o", markersize=2.6, alpha=0.55, linestyle="")
    if row.limits:
        axes.plot(row.limits, [height, height], color=row.colour, linewidth=1.8, solid_capstyle="butt")
    face = row.colour if row.limits else PAPER  # hollow: there is no interval, which is not the same as a short one
    axes.plot(
        [row.mean], [height], color=row.colour, marker="o", markersize=5.5, markerfacecolor=face, markeredgewidth=1.4
    )


def _limits(rows: Sequence[Row], zero: bool) -> tuple[float, float]:
    """Everything but the far ends of intervals that are wider than twice what the means and dots span."""
    points = [x for row in rows for x in (row.mean, *row.dots, *([row.start] if row.start is not None else []))]
    points += [0.0] if zero else []
    low, high = min(points), max(points)
    room = (high - low) or abs(high) or 1.0
    ends = [end for row in rows if row.limits for end in row.limits]
    low = min([low, *(max(end, low - room) for end in ends)])
    high = max([high, *(min(end, high + room) for end in ends)])
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _text(colour: str) -> dict:
    return {"va": "center", "fontsize": SIZE, "color": colour, "clip_on": False, "parse_math": False}


def _width(axes: Axes) -> float:
    """Of the axes, in points."""
    return 72 * axes.get_window_extent().width / axes.figure.dpi  # pyright: ignore[reportOptionalMemberAccess]
