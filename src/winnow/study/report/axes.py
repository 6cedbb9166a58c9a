"""House style of a panel: no box, faint grid, names beside the curves that they name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from winnow.study.report.palette import GRID, INK, MUTED

STEPS = (1, 2, 2.5, 5, 10)
SIZE = 8.5
"""Points of a label; a page shows panels at 1 to 1.3 times their size."""


@dataclass(frozen=True, slots=True)
class Name:
    """A label for what ends at (x, y), in the units of the data."""

    text: str
    x: float
    y: float
    colour: str


def heading(axes: Axes, title: str, unit: str) -> None:
    width, height = _points(axes)
    size = 10 if width > 130 else SIZE
    words = {"transform": axes.transAxes, "va": "bottom", "parse_math": False}
    axes.text(0, 1 + (18 if unit else 5) / height, title, fontsize=size, fontweight="bold", color=INK, **words)
    axes.text(0, 1 + 5 / height, unit, fontsize=SIZE, color=MUTED, **words)


def bare(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.set_facecolor("none")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=SIZE, labelcolor=MUTED)


def scale(axes: Axes, text: Callable[[float], str], xlabel: str, bins: int = 5) -> None:
    """Few ticks, values as `text` writes them."""
    axes.set_xlabel(xlabel, fontsize=SIZE, color=MUTED, labelpad=2, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=bins, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def logarithmic(axis: Axis, limits: tuple[float, float], text: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis: decades, and within less than two of them twos and fives."""
    low, high = limits
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1,), numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def thousands(value: float) -> str:
    """`1500000` as `1.5M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def beside(axes: Axes, names: Sequence[Name]) -> None:
    """Write names at the right edge, as near to their heights as they fit without touching. Call when limits are final."""
    height = _points(axes)[1]
    right = axes.get_xlim()[1]
    to_height = [axes.transAxes.inverted().transform(axes.transData.transform((n.x, n.y)))[1] * height for n in names]
    placed = spread(to_height, SIZE + 2, 2.0, height - 2)
    width = _points(axes)[0]
    for name, y in zip(names, placed, strict=True):
        axes.annotate(
            name.text,
            xy=(name.x, name.y),
            xytext=(1 + 9 / width, y / height),
            textcoords="axes fraction",
            fontsize=SIZE,
            fontweight="bold",
            color=name.colour,
            va="center",
            ha="left",
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": name.colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "shrinkA": 0,
                "shrinkB": 2 if name.x >= right else 4,
            },
        )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near to `wanted`, in the same order, at least `gap` apart and within [low, high] where that has room.

    Neighbours that touch are moved as one block around the mean of what they want: the least squares solution.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # where the first of a block goes, and how many it has
    for i in order:
        start, size = wanted[i], 1
        while blocks and start < blocks[-1][0] + gap * blocks[-1][1]:
            before, many = blocks.pop()
            start = (before * many + (start - gap * many) * size) / (many + size)
            size += many
        blocks.append((start, size))
    heights = [start + gap * j for start, size in blocks for j in range(size)]
    heights = _upwards(heights, gap, low)
    heights = [-h for h in _upwards([-h for h in reversed(heights)], gap, -high)][::-1]
    return [heights[order.index(i)] for i in range(len(wanted))]


def _upwards(heights: Sequence[float], gap: float, low: float) -> list[float]:
    """Ascending heights pushed up until each is at or above `low` and a gap above the one before."""
    pushed: list[float] = []
    for height in heights:
        pushed.append(max(height, pushed[-1] + gap if pushed else low))
    return pushed


def _points(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes, in points."""
    box = axes.get_window_extent()
    dpi = axes.figure.dpi  # pyright: ignore[reportOptionalMemberAccess]
    return 72 * box.width / dpi, 72 * box.height / dpi
